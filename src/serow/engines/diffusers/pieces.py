"""Operations on large pictures, computed in pieces: one call of PyTorch for minutes could not be left.

Between two pieces stands a module of no effect, where a drawing that nobody waits for any more ends (`leaving`). What takes no
longer than a piece is computed as ever. Only on a CPU: elsewhere nothing takes so long.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from serow.engines.diffusers.leaving import LARGEST_PIECE, LONGEST_PIECE

_pause = torch.nn.Identity()
_functional: Any = torch.nn.functional


@contextmanager
def in_pieces() -> Iterator[None]:
    """Compute in pieces meanwhile, in whichever thread."""
    whole = {name: getattr(_functional, name) for name in _KINDS}
    for name, kind in _KINDS.items():
        setattr(_functional, name, kind(whole[name]))
    try:
        yield
    finally:
        for name, own in whole.items():
            setattr(_functional, name, own)


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

        def piece(start: int, stop: int) -> Any:
            mask = _rows(attn_mask, start, stop)
            return self._whole(_pause(query[..., start:stop, :]), key, value, mask, *args, **kwargs)

        return _joined(piece, query.shape[-2], rows, -2)


def _rows(mask: Any, start: int, stop: int) -> Any:
    is_one_for_all = mask is None or mask.ndim < 2 or mask.shape[-2] == 1
    return mask if is_one_for_all else mask[..., start:stop, :]


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
        before, reach = pixels.shape[-2], weight.shape[-2] - 1
        height = before + 2 * above - reach

        def band(start: int, stop: int) -> Any:
            first, last = start - above, stop + reach - above
            edges = (0, 0, max(0, -first), max(0, last - before))
            rows = _functional.pad(_pause(pixels[..., max(0, first) : last, :]), edges)
            return self._whole(rows, weight, bias, 1, (0, beside), 1, groups)

        return _joined(band, height, max(1, height * LONGEST_PIECE // work), -2)


class _Normalization:
    """In pieces of its groups of channels."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole

    def __call__(self, pixels: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
        if not _is_large(pixels):
            return self._whole(pixels, num_groups, weight, bias, eps)
        channels = pixels.shape[1] // num_groups

        def piece(start: int, stop: int) -> Any:
            scale, shift = (None if each is None else each[start:stop] for each in (weight, bias))
            return self._whole(_pause(pixels[:, start:stop]), (stop - start) // channels, scale, shift, eps)

        groups = max(1, num_groups * LARGEST_PIECE // pixels.numel())
        return _joined(piece, pixels.shape[1], groups * channels, 1)


class _Linear:
    """In pieces of its rows: pixels, or tokens."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole

    def __call__(self, input: Any, weight: Any, bias: Any = None) -> Any:
        work = input.numel() * weight.shape[0]
        if work <= LONGEST_PIECE or input.ndim < 2 or input.device.type != "cpu":
            return self._whole(input, weight, bias)
        return _split(lambda rows: self._whole(rows, weight, bias), input, -2, input.shape[-2] * LONGEST_PIECE // work)


class _Each:
    """In pieces of one dimension, for what does the same to each of its entries."""

    def __init__(self, whole: Any, dim: int, is_large: Callable[[Any], bool]) -> None:
        self._whole = whole
        self._dim = dim
        self._is_large = is_large

    def __call__(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        if not self._is_large(input):
            return self._whole(input, *args, **kwargs)
        step = input.shape[self._dim] * LARGEST_PIECE // input.numel()
        return _split(lambda piece: self._whole(piece, *args, **kwargs), input, self._dim, step)


def _is_large(pixels: Any) -> bool:
    is_plain: bool = pixels.ndim == 4 and pixels.device.type == "cpu" and pixels.is_contiguous()
    return is_plain and pixels.numel() > LARGEST_PIECE


def _is_long(tokens: Any) -> bool:
    is_plain: bool = tokens.ndim == 3 and tokens.device.type == "cpu"
    return is_plain and tokens.numel() > LARGEST_PIECE


_BY_CHANNEL = partial(_Each, dim=1, is_large=_is_large)
_BY_ROW = partial(_Each, dim=-2, is_large=_is_long)
_KINDS: dict[str, Callable[[Any], Any]] = {
    "scaled_dot_product_attention": _Attention,
    "conv2d": _Convolution,
    "group_norm": _Normalization,
    "silu": _BY_CHANNEL,
    "linear": _Linear,
    "gelu": _BY_ROW,
    "layer_norm": _BY_ROW,
    "interpolate": _BY_CHANNEL,
}


def _split(compute: Callable[[Any], Any], input: Any, dim: int, step: int) -> Any:
    """What is computed of so many entries of one dimension at a time, laid into one tensor."""

    def piece(start: int, stop: int) -> Any:
        return compute(_pause(input.narrow(dim, start, stop - start)))

    return _joined(piece, input.shape[dim], max(1, step), dim)


def _joined(piece: Callable[[int, int], Any], length: int, step: int, dim: int) -> Any:
    """The pieces between 0 and `length` of one dimension, laid into one tensor as they come."""
    found: Any = None
    for start in range(0, length, step):
        stop = min(start + step, length)
        part = piece(start, stop)
        if found is None:
            shape = list(part.shape)
            shape[dim] = length
            found = part.new_empty(shape)
        found.narrow(dim, start, stop - start).copy_(part)
    return found


def _both(value: Any) -> tuple[int, int]:
    """A number for both directions, or one for each."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))
