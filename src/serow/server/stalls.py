"""Notices when the event loop is held: while that lasts nobody is answered, so each time is logged and counted.

The loop beats ten times a second. A thread looks at the beats too, since only while the loop stands still can be seen which
request it works for, and where.
"""

import asyncio
import logging
import math
import sys
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from pathlib import Path

from serow.server.exchange import request_of
from serow.system.limits import waited_for_cores

LIMIT = 0.25  # seconds
_BEAT = 0.1
_PACKAGE = str(Path(__file__).parents[1])

logger = logging.getLogger(__name__)


class StallWatch:
    """Tells `observe` the seconds of each stall beyond the limit, from `start` to `stop`."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._loop: AbstractEventLoop
        self._thread_id = 0
        self._due = math.inf  # when the next beat should come
        self._suspect = ("", "")  # request and place that were seen in this stall
        self._timer: asyncio.TimerHandle | None = None
        self._waited = 0.0  # seconds that the loop's thread had waited for a core by the last beat
        self._has_ended = threading.Event()

    def start(self) -> None:
        """Beat in the running loop."""
        self._loop, self._thread_id = asyncio.get_running_loop(), threading.get_ident()
        self._due = time.monotonic()
        self._beat()
        threading.Thread(target=self._watch, name="stalls", daemon=True).start()

    def stop(self) -> None:
        """No beat comes any more."""
        self._has_ended.set()
        self._due = math.inf
        if self._timer is not None:
            self._timer.cancel()

    @property
    def delay(self) -> float:
        """For how many seconds the loop has been held by now."""
        return max(0.0, time.monotonic() - self._due)

    def _beat(self) -> None:
        if (delay := self.delay) > LIMIT:
            self._tell(delay)
        self._suspect = ("", "")
        self._waited = waited_for_cores()
        self._due = time.monotonic() + _BEAT
        self._timer = self._loop.call_later(_BEAT, self._beat)

    def _tell(self, delay: float) -> None:
        self._observe(delay)
        request, place = self._suspect
        waited = min(delay, max(0.0, waited_for_cores() - self._waited))
        fields = {"seconds": round(delay, 3), "waited_for_cores": round(waited, 3), "place": place or "unknown"}
        fields |= {"request_id": request} if request else {}
        logger.warning("the event loop was held", extra={"fields": fields})

    def _watch(self) -> None:
        """In a thread of its own: look once in each stall who holds the loop."""
        while not self._has_ended.wait(_BEAT):
            if self.delay > _BEAT and not self._suspect[1]:
                task = asyncio.current_task(self._loop)
                self._suspect = (request_of(task) if task else "", self._place())

    def _place(self) -> str:
        """The innermost line of ours that the loop's thread is at."""
        frame = sys._current_frames().get(self._thread_id)
        while frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE):
            frame = frame.f_back
        return f"{Path(frame.f_code.co_filename).relative_to(_PACKAGE)}:{frame.f_lineno}" if frame is not None else "outside"
