"""Choices that run together as one answer, at its end."""

from collections.abc import Callable, Sequence
from typing import Any

from serow.inference.events import Chosen
from serow.wire.fold import Fold

Render = Callable[[Sequence[Fold]], Any]


class WholeChoices:
    """The events of `number` choices, rendered once all are done."""

    def __init__(self, number: int, render: Render) -> None:
        self._folds = [Fold() for _ in range(number)]
        self._render = render

    def add(self, chosen: Chosen) -> None:
        """One event more."""
        choice, event = chosen
        self._folds[choice].add(event)

    def value(self) -> Any:
        """The answer."""
        return self._render(self._folds)
