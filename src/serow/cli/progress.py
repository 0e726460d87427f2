"""Progress records of pull and create, as bars on a terminal, as plain lines elsewhere."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from serow.cli.terminal import escaped, is_plain, say


class Bar(Protocol):
    """What takes the records of one stream."""

    def update(self, status: str, completed: int | None, total: int | None) -> None:
        """Show one record; sizes in bytes."""
        ...


class _Lines:
    """A line on stderr whenever the status changes."""

    def __init__(self) -> None:
        self._status = ""

    def update(self, status: str, completed: int | None, total: int | None) -> None:
        if status != self._status:
            say(status, err=True)
        self._status = status


class _Bars:
    """A bar for each status that has a total, a line for each that has none, in the order of their coming."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._status = ""
        self._task: Any = None

    def update(self, status: str, completed: int | None, total: int | None) -> None:
        if status != self._status:
            self._status, self._task = status, self._progress.add_task(escaped(status), total=total)
        self._progress.update(self._task, completed=completed or 0, total=total)


@contextmanager
def bar(*, is_bytes: bool = True) -> Iterator[Bar]:
    """What shows progress on stderr; totals are bytes, or steps."""
    if is_plain(err=True):
        yield _Lines()
        return
    from serow.cli.bars import progress

    with progress(is_bytes=is_bytes) as shown:
        yield _Bars(shown)


def show(records: Iterable[Any]) -> None:
    """Show the progress records of the official client until they end."""
    with bar() as shown:
        for record in records:
            shown.update(record.status or "", record.completed, record.total)
