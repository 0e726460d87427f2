"""How long a drawing goes on after its client has left, by the moment at which they leave.

    python bench/leaving.py FOLDER [--side 1536 --moments 0.02 0.3 2 7]

They leave in the middle of a drawing (its text encoder comes first, then its steps), of the decoding, and of that in tiles. At
most a second is wanted on two cores that nothing else uses.
"""

import argparse
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from serow.engines.base import ImageRequest
from serow.engines.diffusers import load
from serow.engines.diffusers.leaving import Abandoned, Leaving
from serow.engines.diffusers.pieces import in_pieces
from serow.engines.diffusers.protocol import ImageSpec
from serow.store.pipeline import check_folder

Work = Callable[[Leaving], None]


def seconds_after(work: Work, moment: float) -> float | None:
    """How long the work went on when it was left at that moment; None when it was done before."""
    leaving, left = Leaving(), list[float]()

    def leave() -> None:
        left.append(time.perf_counter())
        leaving.leave()

    timer = threading.Timer(moment, leave)
    timer.start()
    try:
        with suppress(Abandoned):
            work(leaving)
            return None
        return time.perf_counter() - left[0]
    finally:
        leaving.over()
        timer.cancel()
        timer.join()


def works(folder: Path, side: int) -> dict[str, Work]:
    """What is left in its middle, by its name."""
    pipeline = load.load(ImageSpec(folder=str(folder)), check_folder(folder))
    vae: Any = pipeline._pipe.vae
    cells = side // int(pipeline._pipe.vae_scale_factor)
    latents = torch.zeros(1, vae.config.latent_channels, cells, cells)

    def draw(leaving: Leaving) -> None:
        request = ImageRequest("a red circle", (1,), side, side, 2, guidance=4.0)
        pipeline.draw(request, lambda *_: leaving.check())

    def decode(_: Leaving) -> None:
        with torch.inference_mode(), in_pieces():
            vae._decode(latents)

    def decode_in_tiles(leaving: Leaving) -> None:
        vae.enable_tiling()
        try:
            decode(leaving)
        finally:
            vae.disable_tiling()

    return {"drawing": draw, "decoding": decode, "decoding in tiles": decode_in_tiles}


def main() -> None:
    """Print a line for each moment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=1536)
    parser.add_argument("--moments", type=float, nargs="+", default=[0.02, 0.3, 2.0, 7.0])
    args = parser.parse_args()
    for name, work in works(args.folder, args.side).items():
        for moment in args.moments:
            after = seconds_after(work, moment)
            told = "was done before" if after is None else f"went on for {after:.2f} s"
            print(f"{args.side}x{args.side}, {name}, left after {moment:g} s: {told}", flush=True)


if __name__ == "__main__":
    main()
