"""How much of this machine's CPU others use while we do something."""

import contextlib
import time
from collections.abc import Iterator

import psutil

_IDLE = ("idle", "iowait", "guest", "guest_nice")  # what guests take is in user and nice, too


class OtherLoad:
    """Measures from its making on. Others are all processes that are not ours, and machines beside a virtual one (steal)."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy, self._own = _busy(), _own()

    @property
    def share(self) -> float:
        """What others took until now, of all the cores that there are: 0 for nothing, 1 for everything."""
        ours = sum(seconds - self._own.get(process, 0.0) for process, seconds in _own().items())
        elapsed = (time.monotonic() - self._began) * (psutil.cpu_count() or 1)
        return min(1.0, max(0.0, _busy() - self._busy - ours) / elapsed) if elapsed else 0.0


def _busy() -> float:
    """Seconds of CPU since the machine started, whoever took them."""
    return float(sum(seconds for name, seconds in psutil.cpu_times()._asdict().items() if name not in _IDLE))


def _own() -> dict[int, float]:
    """Seconds of this process and of each that it has started, by process id."""
    return {process.pid: seconds for process, seconds in _times()}


def _times() -> Iterator[tuple[psutil.Process, float]]:
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            yield process, sum(process.cpu_times()[:2])
