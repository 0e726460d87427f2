"""What a whole drawing takes beside its weights, and what `working` estimates: text, steps, decoding, each by itself.

    python -m bench.picture_memory sdxl --side 1024      one family in one process, which has to be fresh
    python -m bench.picture_memory --list

The networks have random weights and the widths of real ones, but few layers, which follow each other and take no more memory
together than one; so two cores draw them in minutes. Measured is the kernel's own peak of what is resident (VmHWM, Linux only).
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.picture_families import FAMILIES, quickly
from serow.engines.base import ImageRequest
from serow.engines.diffusers.guidance import meaning
from serow.engines.diffusers.pipeline import Pipeline
from serow.engines.diffusers.working import working

PROMPT = "a lighthouse on a cliff above the sea in the evening, its lamp lit, gulls around it, waves against the rocks below"
SEED = 1
STEPS = 1


@dataclass
class Peaks:
    """Bytes beside what was resident before, at most, by the part of the drawing."""

    base: int = 0
    text: int = 0
    step: int = 0
    decode: int = 0

    def begin(self) -> None:
        """Count from here."""
        _forget()
        self.base = _resident("VmRSS")

    def end(self, name: str) -> None:
        """A part is over, the next one begins."""
        setattr(self, name, max(getattr(self, name), _resident("VmHWM") - self.base))
        _forget()


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def _forget() -> None:
    """Have the kernel take what is resident now for the peak."""
    Path("/proc/self/clear_refs").write_text("5")


def peaks(pipe: Any, request: ImageRequest) -> Peaks:
    """Draw; returns what it took."""
    found, pipeline, denoiser = Peaks(), Pipeline(pipe, "cpu"), getattr(pipe, "unet", None) or pipe.transformer

    def before_first_step(*_: Any) -> None:
        found.end("text")
        hook.remove()

    def on_step(completed: int, total: int, _: bytes | None) -> None:
        if completed == total:
            found.end("step")

    hook = denoiser.register_forward_pre_hook(before_first_step)
    found.begin()
    pipeline.draw(request, on_step)
    found.end("decode")
    return found


def measure(family: str, side: int, dtype: torch.dtype, guidance: float | None) -> dict[str, Any]:
    """One drawing of a family; numbers in MiB."""
    torch.manual_seed(SEED)
    build: Callable[[], Any] = FAMILIES[family]
    with quickly():
        pipe = build().to(dtype)
    pipe.set_progress_bar_config(disable=True)
    known = meaning(pipe)
    scale = known.default if guidance is None else guidance
    batch = 2 if known.kind == "classic" and (scale is None or scale > known.threshold) else 1
    whole = working(pipe, (side, side), batch)
    thought = whole.parts(whole.decode)
    found = vars(peaks(pipe, ImageRequest(PROMPT, (SEED,), side, side, STEPS, guidance=guidance)))
    rows = {name: {"found": found[name] >> 20, "estimate": estimate >> 20} for name, estimate in thought.items()}
    ratio = max(thought.values()) / max(found[name] for name in thought)
    return {"family": family, "side": side, "dtype": str(dtype), "batch": batch, **rows, "ratio": round(ratio, 3)}


def main() -> int:
    """Print the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", nargs="?", choices=FAMILIES)
    parser.add_argument("--list", action="store_true", help="tell the families")
    parser.add_argument("--side", type=int, default=512, help="pixels")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--guidance", type=float)
    given = parser.parse_args()
    if given.list or given.family is None:
        print("\n".join(FAMILIES))
        return 0
    print(json.dumps(measure(given.family, given.side, getattr(torch, given.dtype), given.guidance)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
