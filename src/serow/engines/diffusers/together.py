"""Several pictures in one call of a pipeline: a batch, where each picture comes out to the bit as it does alone (PIC-06).

PyTorch's kernels add up in another order for other shapes, and then a grey level differs. What depends on that are, on a CPU,
the layers that see few rows: these are computed for each picture by itself, as the text encoder and the autoencoder do
everything. Whether that was all the first step of each new shape finds out: the network is asked once more for single pictures.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from serow.engines.diffusers.signature import parameters

_functional: Any = torch.nn.functional
FEW_ROWS = 16  # of one picture
_UNSEEDED = ("DPMSolverSDEScheduler",)  # schedulers whose noise is of the batch, not of each picture
_MOST_KNOWN = 256  # shapes


class Unlike(Exception):
    """A batch of this shape changes its pictures."""


class Together:
    """Calls a pipeline for several pictures at once."""

    def __init__(self) -> None:
        self._alike: set[object] = set()
        self._unlike: set[object] = set()

    def may(self, pipe: Any, shape: object) -> bool:
        """Whether it can be, for all that is known; `shape` is what the batch looks like."""
        can = "num_images_per_prompt" in parameters(pipe) and _denoiser(pipe) is not None
        is_seeded = type(pipe.scheduler).__name__ not in _UNSEEDED
        return can and is_seeded and (type(pipe), shape) not in self._unlike

    def draw(self, pipe: Any, shape: object, arguments: Mapping[str, Any], generators: Sequence[torch.Generator]) -> Any:
        """What the pipeline returns; raises Unlike in its first step."""
        count = len(generators)
        watch = _Watch(count, self._alike)
        linear = _functional.linear
        _functional.linear = _EachAlone(linear, count)
        hook = _denoiser(pipe).register_forward_hook(watch, with_kwargs=True)
        try:
            return pipe(**arguments, num_images_per_prompt=count, generator=list(generators))
        except Unlike:
            _remember(self._unlike, (type(pipe), shape))
            raise
        finally:
            _functional.linear = linear
            hook.remove()


class _Watch:
    """A forward hook of the network: compares its first answer with those for single pictures."""

    def __init__(self, count: int, alike: set[object]) -> None:
        self._count = count
        self._alike = alike
        self._is_done = False

    def __call__(self, network: Any, args: Any, kwargs: Any, found: Any) -> None:
        if self._is_done:
            return
        self._is_done = True
        shapes = self._count, _shapes(args), _shapes(kwargs)
        if shapes in self._alike:
            return
        split, _functional.linear = _functional.linear, _functional.linear.whole
        for number in (0, self._count - 1):
            given = [_one(each, number, self._count) for each in (args, kwargs)]
            alone = network.forward(*given[0], **given[1])
            if not _equal(_one(_first(found), number, self._count), _first(alone)):
                raise Unlike
        _functional.linear = split
        _remember(self._alike, shapes)


class _EachAlone:
    """A linear layer that computes each picture by itself where that has few rows."""

    def __init__(self, whole: Callable[..., torch.Tensor], count: int) -> None:
        self.whole = whole
        self._count = count

    def __call__(self, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        is_of_all = rows.ndim > 1 and rows.shape[0] in (self._count, 2 * self._count)
        if not is_of_all or rows[0].numel() >= FEW_ROWS * rows.shape[-1]:
            return self.whole(rows, weight, bias)
        found = rows.new_empty((*rows.shape[:-1], weight.shape[0]))
        for number in range(self._count):
            found[number :: self._count] = self.whole(rows[number :: self._count].contiguous(), weight, bias)
        return found


def _denoiser(pipe: Any) -> Any:
    """The network that a pipeline asks in every step; None where it has none of the usual names."""
    return getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)


def _one(value: Any, number: int, count: int) -> Any:
    """What of an argument belongs to one of the pictures; guidance has all of them twice, one time behind the other."""
    if isinstance(value, Mapping):
        return {name: _one(each, number, count) for name, each in value.items()}
    if isinstance(value, tuple):
        return tuple(_one(each, number, count) for each in value)
    if isinstance(value, list):
        return value[number::count] if len(value) in (count, 2 * count) else value
    is_of_all = isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape[0] in (count, 2 * count)
    return value[number::count] if is_of_all else value


def _shapes(value: Any) -> object:
    """The shapes of arguments, as what they can be found by."""
    if isinstance(value, Mapping):
        return tuple((name, _shapes(each)) for name, each in value.items())
    if isinstance(value, (tuple, list)):
        return tuple(map(_shapes, value))
    return (tuple(value.shape), str(value.dtype)) if isinstance(value, torch.Tensor) else type(value).__name__


def _first(answer: Any) -> Any:
    return answer if isinstance(answer, (torch.Tensor, list)) else answer[0]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(torch.equal, one, other))
    return bool(torch.equal(one, other))


def _remember(known: set[object], key: object) -> None:
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known.add(key)
