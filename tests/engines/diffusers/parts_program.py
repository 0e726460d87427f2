"""Checks of what stands between a pipeline and PyTorch, on small tensors: `python -m tests.engines.diffusers.parts_program`.

Run as a program of its own: torch is imported here, and in no process that tests run in. Prints the outcome of each check as
JSON by its name.
"""

import json
import sys
import traceback
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from torch.nn import functional

from serow.engines.diffusers import decoding, pieces, preview
from serow.engines.diffusers.decoding import BrokenPicture, Decoding
from serow.engines.diffusers.leaving import Abandoned, Leaving


class Vae(torch.nn.Module):  # type: ignore[misc]
    """An autoencoder that answers with what `pixels` makes of its type, and may have too little memory for a whole."""

    def __init__(self, pixels: Callable[[torch.dtype], torch.Tensor], *, fits: bool = True) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float16))
        self._pixels, self._fits = pixels, fits
        self.use_tiling = False
        self.calls: list[tuple[torch.dtype, bool]] = []

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    def enable_tiling(self) -> None:
        self.use_tiling = True

    def disable_tiling(self) -> None:
        self.use_tiling = False

    def decode(self, latents: torch.Tensor, return_dict: bool = True) -> tuple[torch.Tensor]:
        self.calls.append((self.dtype, self.use_tiling))
        if not self._fits and not self.use_tiling:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9000 bytes.")
        return (self._pixels(self.dtype),)


GOOD = torch.linspace(-1, 1, 48).view(1, 3, 4, 4)
LATENTS = torch.zeros(1, 4, 2, 2, dtype=torch.float16)


def overflowing(dtype: torch.dtype) -> torch.Tensor:
    """Numbers that are none, but in float32."""
    return GOOD if dtype == torch.float32 else GOOD.half() * float("nan")


def refused(vae: Vae, latents: torch.Tensor = LATENTS) -> str:
    """What a decode is refused with."""
    try:
        Decoding(vae)(latents)
    except BrokenPicture as error:
        return str(error)
    return ""


def check_overflow_is_decoded_once_more_in_float32() -> None:
    vae = Vae(overflowing)
    assert torch.equal(Decoding(vae)(LATENTS)[0], GOOD)
    assert [dtype for dtype, _ in vae.calls] == [torch.float16, torch.float32] and vae.dtype == torch.float16


def check_what_is_no_picture_in_float32_either_is_refused() -> None:
    vae = Vae(lambda _: GOOD * float("inf"))
    assert "numbers that are none" in refused(vae) and len(vae.calls) == 2
    assert "one flat colour" in refused(Vae(lambda _: torch.zeros(1, 3, 4, 4)))
    assert "one flat colour" in refused(Vae(lambda _: GOOD.abs() + 2))  # white to the eye
    nothing = Vae(lambda _: GOOD)
    assert "numbers that are none" in refused(nothing, LATENTS * float("nan")) and not nothing.calls


def check_a_batch_with_one_flat_picture_is_refused() -> None:
    assert "one flat colour" in refused(Vae(lambda _: torch.cat([GOOD, torch.zeros_like(GOOD)])))


def check_a_decode_that_lacks_memory_is_done_in_tiles_and_told() -> None:
    vae = Vae(lambda _: GOOD, fits=False)
    made = Decoding(vae)
    assert torch.equal(made(LATENTS)[0], GOOD) and made.warnings and not vae.use_tiling
    assert [is_tiled for _, is_tiled in vae.calls] == [False, True]


def check_a_flat_picture_without_an_autoencoder_is_refused() -> None:
    decoding.check_flat(Image.new("RGB", (1, 1), "black"))
    mixed = Image.new("RGB", (2, 1), "black")
    mixed.putpixel((0, 0), (0, 0, 9))
    decoding.check_flat(mixed)
    try:
        decoding.check_flat(Image.new("RGB", (2, 2), "black"))
    except BrokenPicture:
        return
    raise AssertionError("a black picture went through")


def check_pieces_are_equal_to_the_whole() -> None:
    seeded = torch.Generator().manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=seeded)

    query, key, value, mask = some(1, 2, 300, 16), some(1, 2, 300, 16), some(1, 2, 300, 16), some(300, 300)
    pixels, wide, narrow, bias = some(2, 8, 65, 40), some(12, 8, 3, 3), some(12, 8, 1, 1), some(12)

    def results() -> list[torch.Tensor]:
        attention, conv2d = functional.scaled_dot_product_attention, functional.conv2d
        return [
            attention(query, key, value),
            attention(query, key, value, mask),
            conv2d(pixels, wide, bias, (1, 1), (1, 1)),
            conv2d(pixels, narrow, bias),
            conv2d(pixels, wide, bias, 2, 1),
            conv2d(pixels, wide, None, 1, "same"),
        ]

    whole = results()
    pieces.LONGEST_PIECE = 100_000  # type: ignore[attr-defined]
    pieces.compute_in_pieces()
    for one, other in zip(whole, results(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def check_who_leaves_ends_the_drawing_before_its_next_module_and_no_later_one() -> None:
    leaving, module = Leaving(), torch.nn.Identity()
    module(LATENTS)
    leaving.leave()
    try:
        module(LATENTS)
    except Abandoned:
        leaving.over()
        module(LATENTS)
        late = Leaving()
        late.over()
        late.leave()
        module(LATENTS)
        return
    raise AssertionError("the module ran")


def check_packed_latents_are_unpacked_for_a_preview() -> None:
    cells = torch.arange(2 * 4 * 6, dtype=torch.float32).view(1, 2, 4, 6)
    packed = cells.view(1, 2, 2, 2, 3, 2).permute(0, 2, 4, 1, 3, 5).reshape(1, 6, 8)
    vae: Any = SimpleNamespace(config=SimpleNamespace(latent_channels=2, scaling_factor=0.5, shift_factor=1.0))
    pipe = SimpleNamespace(vae=vae, vae_scale_factor=8)
    for given in (packed, cells, cells.unsqueeze(2)):
        found = preview.latents_of(pipe, given, (48, 32))
        assert found is not None and torch.equal(found, cells * 2 + 1)
    assert preview.latents_of(pipe, packed, (64, 64)) is None


def outcome(check: Callable[[], None]) -> str:
    """What went wrong, "" for nothing."""
    try:
        check()
    except Exception:  # noqa: BLE001 (whatever it is, it is told)
        return traceback.format_exc()
    return ""


def main() -> None:
    """Run every check."""
    checks = {name: each for name, each in globals().items() if name.startswith("check_")}
    json.dump({name: outcome(check) for name, check in checks.items()}, sys.stdout)


if __name__ == "__main__":
    main()
