"""Variables of a template while it is parsed and while it runs."""

from typing import Any


class Scope:
    """A stack of declared variables; a name means its latest declaration."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._cells: dict[str, list[list[Any]]] = {}

    def __contains__(self, name: str) -> bool:
        return bool(self._cells.get(name))

    def __len__(self) -> int:
        return len(self._names)

    def declare(self, name: str, value: Any = None) -> list[Any]:
        """Declare a variable; returns its cell, a list of one value."""
        cell = [value]
        self._names.append(name)
        self._cells.setdefault(name, []).append(cell)
        return cell

    def cell(self, name: str) -> list[Any]:
        """The cell of a declared variable."""
        return self._cells[name][-1]

    def release(self, size: int) -> None:
        """Forget what was declared since the scope had `size` variables."""
        while len(self._names) > size:
            self._cells[self._names.pop()].pop()
