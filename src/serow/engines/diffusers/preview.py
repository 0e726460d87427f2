"""How far a picture is: its latents as a small JPEG, by a linear projection onto red, green and blue.

The projection is found once for each autoencoder, by least squares from what it makes of fields of colour: so it holds for each
family, and for autoencoders that somebody has trained anew.
"""

import io
from typing import Any

import torch
from PIL import Image

_SIDE = 256  # pixels at most
_SAMPLES, _FIELDS, _PIXELS = 4, 8, 128  # pictures of coloured fields that the projection is found with
_SEED = 7


class Projection:
    """Latents of an autoencoder onto colours."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self._matrix: torch.Tensor | None = None

    def jpeg(self, latents: torch.Tensor) -> bytes:
        """The first picture of latents as the autoencoder takes them: (picture, channel, row, column)."""
        cells = latents[:1].float().cpu()
        if self._matrix is None:
            self._matrix = self._found()
        colours = _with_one(cells) @ self._matrix
        pixels = colours.reshape(*cells.shape[2:], 3).clamp(0, 1).mul(255).round().to(torch.uint8)
        return _jpeg(Image.fromarray(pixels.numpy(), "RGB"))

    def _found(self) -> torch.Tensor:
        """The matrix, one row for each channel and one for a constant, that comes nearest to what the autoencoder encoded."""
        generator = torch.Generator("cpu").manual_seed(_SEED)
        corners = torch.rand(_SAMPLES, 3, _FIELDS, _FIELDS, generator=generator)
        pictures = torch.nn.functional.interpolate(corners, size=(_PIXELS, _PIXELS), mode="nearest")
        given = (pictures * 2 - 1).to(device=self._vae.device, dtype=self._vae.dtype)
        is_video = any(parameter.ndim == 5 for parameter in self._vae.parameters())
        encoded = self._vae.encode(given.unsqueeze(2) if is_video else given)
        cells = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latent
        cells = (cells.squeeze(2) if is_video else cells).float().cpu()
        small = torch.nn.functional.adaptive_avg_pool2d(pictures, cells.shape[2:])
        return torch.linalg.lstsq(_with_one(cells), small.permute(0, 2, 3, 1).reshape(-1, 3)).solution


def _with_one(cells: torch.Tensor) -> torch.Tensor:
    """One row for each cell: its channels, and 1."""
    rows = cells.permute(0, 2, 3, 1).reshape(-1, cells.shape[1])
    return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)


def latents_of(pipe: Any, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor | None:
    """What a pipeline holds in the middle of a drawing as its autoencoder takes it; None for a layout that is not known."""
    config = pipe.vae.config
    norm = getattr(pipe.vae, "bn", None)  # of FLUX.2: what is packed is normalized, each number of a token by itself
    if norm is not None and latents.ndim == 3 and latents.shape[2] == len(norm.running_mean):
        deviation = torch.sqrt(norm.running_var + config.batch_norm_eps)
        return _unpacked(pipe, latents * deviation.to(latents) + norm.running_mean.to(latents), size)
    cells = _unpacked(pipe, latents, size)
    if cells is None:
        return None
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and deviation is not None and len(mean) == cells.shape[1]:
        shape = (1, -1, 1, 1)
        return cells * torch.tensor(deviation).view(shape).to(cells) + torch.tensor(mean).view(shape).to(cells)
    factor, shift = getattr(config, "scaling_factor", None) or 1.0, getattr(config, "shift_factor", None) or 0.0
    return cells / factor + shift


def _unpacked(pipe: Any, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor | None:
    """(picture, channel, row, column), also of what is packed as tokens of two by two cells or has a frame."""
    if latents.ndim == 5 and latents.shape[2] == 1:
        return latents.squeeze(2)
    if latents.ndim == 4:
        return latents
    channels = int(getattr(pipe.vae.config, "latent_channels", None) or getattr(pipe.vae.config, "z_dim", None) or 0)
    columns, rows = (side // int(pipe.vae_scale_factor) // 2 for side in size)
    if latents.ndim != 3 or latents.shape[1:] != (rows * columns, channels * 4):
        return None
    cells = latents.view(-1, rows, columns, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(-1, channels, rows * 2, columns * 2)


def _jpeg(picture: Image.Image) -> bytes:
    picture.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=80)
    return out.getvalue()
