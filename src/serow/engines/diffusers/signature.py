"""The arguments that a pipeline takes. Reading them takes longer than a small step, so they are read once."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any


def parameters(pipe: Any) -> Mapping[str, inspect.Parameter]:
    """The arguments of a pipeline's call, by name."""
    return _of_class(type(pipe))


def _read(kind: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind.__call__).parameters


_of_class: Callable[[type], Mapping[str, inspect.Parameter]] = cache(_read)
