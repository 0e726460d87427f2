"""Notices an engine that has work and does not move.

A request alone can't tell: its prompt may wait for another one's, and an engine that hangs still sends its comments. So the
silence counts for the whole engine: seconds with work and without progress of any request, also when impatient clients come
and go meanwhile.
"""

import asyncio
import time
from collections.abc import Callable

_LONGEST_WAIT = 3600.0  # seconds; a loop's timer does not take what is for ever


class Watchdog:
    """Calls `on_stall` after `limit` seconds of silence. A request is watched `with watchdog`, and tells of its `progress`.

    Both are done for every token: nothing here may take long.
    """

    def __init__(self, limit: float, on_stall: Callable[[], None]) -> None:
        self._limit = limit
        self._on_stall = on_stall
        self._num_watched = 0
        self._silence = 0.0  # seconds before `_since`
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._now: Callable[[], float] = time.monotonic  # the loop's, once there is work

    def __enter__(self) -> None:
        """There is work for the engine, while the context lasts; any number of contexts at once."""
        self._num_watched += 1
        if self._num_watched == 1:
            if self._timer is None:
                self._now = asyncio.get_running_loop().time
                self._since = self._now()
                self._check()
            else:
                self._since = self._now()

    def __exit__(self, *error: object) -> None:
        """That work is done, or given up."""
        self._num_watched -= 1
        if not self._num_watched:
            self._silence += self._now() - self._since

    def progress(self) -> None:
        """Some request got something that only a working engine gives."""
        self._silence, self._since = 0.0, self._now()

    def _check(self) -> None:
        """Look again when the limit may be reached; with nothing to watch stop looking, work comes and goes with each token."""
        self._timer = None
        if not self._num_watched:
            return
        left = self._limit - self._silence - (self._now() - self._since)
        if left > 0:
            self._timer = asyncio.get_running_loop().call_later(min(left, _LONGEST_WAIT), self._check)
        else:
            self._on_stall()
