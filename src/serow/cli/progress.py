"""Progress records of pull and create, as bars on a terminal, as plain lines elsewhere."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from serow.cli.terminal import escaped, is_plain, say, tell
from serow.system.units import human_bytes

_STEPS = 10  # lines for a download
_SILENCE = 30.0  # seconds after which a line comes all the same
_PAUSE = 1.0  # seconds between two lines of one download


class Bar(Protocol):
    """What takes the records of one stream."""

    def update(self, status: str, completed: int | None, total: int | None, key: str = "") -> None:
        """Show one record; sizes in bytes. Records of one `key` belong together, wherever others stand between them."""
        ...


@dataclass
class _Layer:
    """What was told of one layer."""

    began: float
    first: int  # bytes that were there when it began
    told_at: float
    told: int = 0


class _Lines:
    """A line on stderr for each status; for a download one at its start, some on the way, and one at its end.

    Of steps that take long it says now and then how many are done.
    """

    def __init__(self, *, is_bytes: bool) -> None:
        self._is_bytes = is_bytes
        self._status = ""
        self._told_at = 0.0
        self._layers: dict[str, _Layer] = {}

    def update(self, status: str, completed: int | None, total: int | None, key: str = "") -> None:
        if key and total:
            self._update_layer(status, completed or 0, total, key)
        elif status != self._status:
            say(status, err=True)
        elif total and not self._is_bytes and time.monotonic() - self._told_at >= _SILENCE:
            say(f"{status}: {completed or 0} of {total}", err=True)
        else:
            return
        self._status, self._told_at = status, time.monotonic()

    def _update_layer(self, status: str, completed: int, total: int, key: str) -> None:
        now, layer = time.monotonic(), self._layers.get(key)
        if layer is None:
            layer = self._layers[key] = _Layer(now, completed, now, completed)
            say(f"{status}: {human_bytes(total)}", err=True)
        elif completed >= total > layer.told:
            layer.told = total
            say(f"{status}: {human_bytes(total)} in {max(1, round(now - layer.began))} s", err=True)
        elif total > completed and now - layer.told_at >= _PAUSE:
            self._tell_more(status, completed, total, layer)

    def _tell_more(self, status: str, completed: int, total: int, layer: _Layer) -> None:
        now = time.monotonic()
        if completed - layer.told >= total / _STEPS or now - layer.told_at >= _SILENCE:
            layer.told, layer.told_at = completed, now
            rate = (completed - layer.first) / max(now - layer.began, 0.001)
            speed = f", {human_bytes(int(rate))}/s" if rate >= 1 else ""
            say(f"{status}: {completed * 100 // total} % of {human_bytes(total)}{speed}", err=True)


class _Bars:
    """A bar for each key or status that has a total, a line for each other status, in the order of their coming."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}
        self._status = ""

    def update(self, status: str, completed: int | None, total: int | None, key: str = "") -> None:
        key = key or (status if total else "")
        if not key:
            if status != self._status:
                self._progress.add_task(escaped(status), total=None)
            self._status = status
            return
        self._status = ""
        if key not in self._tasks:  # what was here before does not count in the rate
            self._tasks[key] = self._progress.add_task(escaped(status), total=total, completed=completed or 0)
        self._progress.update(self._tasks[key], completed=completed or 0, total=total)


class _Silence:
    """Nothing, for who wants to hear of nothing."""

    def update(self, status: str, completed: int | None, total: int | None, key: str = "") -> None:
        """Say nothing."""


@contextmanager
def bar(*, is_bytes: bool = True) -> Iterator[Bar]:
    """What shows progress on stderr; totals are bytes, or steps."""
    if is_plain(err=True):
        yield _Lines(is_bytes=is_bytes)
        return
    from serow.cli.bars import progress

    with progress(is_bytes=is_bytes) as shown:
        yield _Bars(shown)


def show(records: Iterable[Any], *, quiet: bool = False) -> None:
    """Show the progress records of the official client until they end, then what the last one warns of."""
    warnings: Sequence[str] = ()
    with nullcontext(_Silence()) if quiet else bar() as shown:
        for record in records:
            shown.update(record.status or "", record.completed, record.total, record.digest or "")
            warnings = getattr(record, "warnings", None) or ()
    for warning in warnings:
        tell("warning", warning)
