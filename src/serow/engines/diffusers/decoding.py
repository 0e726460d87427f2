"""The last part of a drawing, from latents to pixels, watched: numbers that are none, one flat colour, too little memory.

Half precision overflows in some autoencoders, and diffusers makes a black picture of that without a word (PIC-07).
"""

import gc
from typing import Any

import torch

from serow.engines.diffusers.memory import is_out_of_memory
from serow.errors import EngineError

_UNFINITE = "the model computed numbers that are none, so there is no picture; weights in half precision may be why"
_FLAT = "the model drew one flat colour, so there is no picture; a broken autoencoder may be why"


class BrokenPicture(EngineError):
    """What was computed is no picture."""


class Decoding:
    """Stands for the `decode` of an autoencoder: decodes again in float32, or in tiles, where that helps."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self._decode = vae.decode
        self._is_tiled = bool(getattr(vae, "use_tiling", False))
        self.warnings: list[str] = []
        vae.decode = self

    def __call__(self, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the autoencoder returns; raises BrokenPicture. Each picture by itself, to the bit as where there is one."""
        if len(latents) == 1:
            return self._checked(latents, *args, **kwargs)
        found = [self._checked(each, *args, **kwargs) for each in latents.split(1)]
        pixels = torch.cat([each[0] for each in found])
        return (pixels,) if isinstance(found[0], tuple) else type(found[0])(pixels)

    def _checked(self, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not torch.isfinite(latents).all():
            raise BrokenPicture(_UNFINITE)
        found = self._in_memory(latents, *args, **kwargs)
        if _fault(found[0]) and latents.dtype != torch.float32:
            found = self._in_float32(latents, *args, **kwargs)
        if fault := _fault(found[0]):
            raise BrokenPicture(fault)
        return found

    def _in_memory(self, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._decode(latents, *args, **kwargs)
        except (RuntimeError, MemoryError) as error:
            if self._is_tiled or not hasattr(self._vae, "enable_tiling") or not is_out_of_memory(error):
                raise
        give_back()
        self.warnings.append("the picture was decoded in tiles: there was too little memory for the whole")
        self._vae.enable_tiling()
        try:
            return self._decode(latents, *args, **kwargs)
        finally:
            self._vae.disable_tiling()

    def _in_float32(self, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        dtype = self._vae.dtype
        self._vae.to(torch.float32)
        try:
            return self._in_memory(latents.float(), *args, **kwargs)
        finally:
            self._vae.to(dtype)


def _fault(pixels: torch.Tensor) -> str:
    """Why pixels (picture, channel, …, row, column) between -1 and 1 are no pictures; "" when they are."""
    low, high = torch.aminmax(pixels.flatten(2), dim=2)  # a number that is none is the least and the greatest of all
    if not torch.isfinite(low).all() or not torch.isfinite(high).all():
        return _UNFINITE
    bytes_apart = (high.clamp(-1, 1) - low.clamp(-1, 1)) * 127.5
    return _FLAT if pixels[0, 0].numel() > 1 and (bytes_apart < 1).all(dim=1).any() else ""


def check_flat(picture: Any) -> None:
    """Raise BrokenPicture for a finished picture (PIL) of one flat colour, of a pipeline without an autoencoder too."""
    if picture.width * picture.height > 1 and all(low == high for low, high in picture.convert("RGB").getextrema()):
        raise BrokenPicture(_FLAT)


def give_back() -> None:
    """Return memory that nothing uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
