"""Attentions and convolutions of large pictures, computed in pieces: one call of PyTorch for minutes could not be left.

Between two pieces stands a module of no effect, where a drawing that nobody waits for any more ends (`leaving`). What takes no
longer than a piece is computed as ever. Only on a CPU: elsewhere nothing takes so long.
"""

from typing import Any

import torch
from torch.nn import functional

from serow.engines.diffusers.leaving import LONGEST_PIECE

_pause = torch.nn.Identity()


def compute_in_pieces() -> None:
    """Once for a process, before it draws."""
    functional.scaled_dot_product_attention = _Attention(functional.scaled_dot_product_attention)
    functional.conv2d = _Convolution(functional.conv2d)


class _Attention:
    """In pieces of its queries, which know nothing of each other."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole

    def __call__(self, query: Any, key: Any, value: Any, attn_mask: Any = None, *args: Any, **kwargs: Any) -> Any:
        work = query.numel() * key.shape[-2] * 2
        is_causal = kwargs.get("is_causal") or (len(args) > 1 and args[1])
        if work <= LONGEST_PIECE or is_causal or query.device.type != "cpu":
            return self._whole(query, key, value, attn_mask, *args, **kwargs)
        rows = max(1, query.shape[-2] * LONGEST_PIECE // work)
        found = [
            self._whole(_pause(query[..., start : start + rows, :]), key, value, _rows(attn_mask, start, rows), *args, **kwargs)
            for start in range(0, query.shape[-2], rows)
        ]
        return torch.cat(found, dim=-2)


def _rows(mask: Any, start: int, rows: int) -> Any:
    is_one_for_all = mask is None or mask.ndim < 2 or mask.shape[-2] == 1
    return mask if is_one_for_all else mask[..., start : start + rows, :]


class _Convolution:
    """In bands of rows, where each pixel is computed from those around it."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole

    def __call__(
        self, pixels: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
    ) -> Any:
        work = pixels.numel() * weight.numel() // max(1, weight.shape[1])
        is_plain = _both(stride) == _both(dilation) == (1, 1) and not isinstance(padding, str) and pixels.ndim == 4
        if work <= LONGEST_PIECE or not is_plain or pixels.device.type != "cpu":
            return self._whole(pixels, weight, bias, stride, padding, dilation, groups)
        above, beside = _both(padding)
        padded = functional.pad(pixels, (0, 0, above, above))
        height, reach = padded.shape[-2] - weight.shape[-2] + 1, weight.shape[-2] - 1
        rows = max(1, height * LONGEST_PIECE // work)
        bands = (_pause(padded[..., start : min(start + rows, height) + reach, :]) for start in range(0, height, rows))
        return torch.cat([self._whole(band, weight, bias, 1, (0, beside), 1, groups) for band in bands], dim=-2)


def _both(value: Any) -> tuple[int, int]:
    """A number for both directions, or one for each."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))
