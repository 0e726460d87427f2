"""Notices when the event loop is held: while that lasts nobody is answered, so each time is logged and counted.

The loop beats ten times a second. A thread looks at the beats too, since only while the loop stands still can be seen which
request it works for, and where. What is told are names of files and lines, never what these work on. The loop waits for other
threads as well, while one of them holds the interpreter, and for the collector of garbage: both are told.
"""

import asyncio
import gc
import logging
import math
import sys
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from serow.server.exchange import request_of
from serow.system.limits import waited_for_cores

LIMIT = 0.25  # seconds
_BEAT = 0.1
_PACKAGE = str(Path(__file__).parents[1])
_DEPTH = 8  # lines of a stack that are told
_MOST_THREADS = 8

logger = logging.getLogger(__name__)


class _Seen(NamedTuple):
    """What was seen in a stall: the request, the innermost line of ours, those around it, where other threads of ours are."""

    request: str = ""
    place: str = ""
    stack: str = ""
    threads: str = ""


class StallWatch:
    """Tells `observe` the seconds of each stall beyond the limit, from `start` to `stop`."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._loop: AbstractEventLoop
        self._thread_id = 0
        self._due = math.inf  # when the next beat should come
        self._seen = _Seen()  # in this stall
        self._collecting = 0.0  # seconds that garbage was collected for since the last beat
        self._collection_began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waited = 0.0  # seconds that the loop's thread had waited for a core by the last beat
        self._has_ended = threading.Event()

    def start(self) -> None:
        """Beat in the running loop."""
        self._loop, self._thread_id = asyncio.get_running_loop(), threading.get_ident()
        self._due = time.monotonic()
        gc.callbacks.append(self._observe_collection)
        self._beat()
        threading.Thread(target=self._watch, name="stalls", daemon=True).start()

    def stop(self) -> None:
        """No beat comes any more."""
        self._has_ended.set()
        self._due = math.inf
        if self._timer is not None:
            self._timer.cancel()
            gc.callbacks.remove(self._observe_collection)
            self._timer = None

    @property
    def delay(self) -> float:
        """For how many seconds the loop has been held by now."""
        return max(0.0, time.monotonic() - self._due)

    def _beat(self) -> None:
        if (delay := self.delay) > LIMIT:
            self._tell(delay)
        self._seen, self._collecting = _Seen(), 0.0
        self._waited = waited_for_cores()
        self._due = time.monotonic() + _BEAT
        self._timer = self._loop.call_later(_BEAT, self._beat)

    def _tell(self, delay: float) -> None:
        self._observe(delay)
        seen = self._seen if self._seen.place else _Seen(threads=self._threads())
        waited = min(delay, max(0.0, waited_for_cores() - self._waited))
        fields = {"seconds": round(delay, 3), "waited_for_cores": round(waited, 3), "place": seen.place or "unknown"}
        fields |= {"collecting": round(self._collecting, 3)} if self._collecting > _BEAT / 2 else {}
        told = {"stack": seen.stack, "threads": seen.threads, "request_id": seen.request}
        fields |= {name: text for name, text in told.items() if text}
        logger.warning("the event loop was held", extra={"fields": fields})

    def _watch(self) -> None:
        """In a thread of its own: look once in each stall who holds the loop."""
        while not self._has_ended.wait(_BEAT):
            if self.delay > _BEAT and not self._seen.place:
                task = asyncio.current_task(self._loop)
                lines = list(_lines(sys._current_frames().get(self._thread_id)))
                place = next((text for text, is_ours in lines if is_ours), "outside")
                stack = "<".join(text for text, _ in lines[:_DEPTH])
                self._seen = _Seen(request_of(task) if task else "", place, stack, self._threads())

    def _threads(self) -> str:
        """The innermost line of ours in each other thread that has one."""
        not_these = (self._thread_id, threading.get_ident())
        frames = [frame for ident, frame in sys._current_frames().items() if ident not in not_these]
        places = (next((text for text, is_ours in _lines(frame) if is_ours), "") for frame in frames)
        return ",".join([place for place in places if place][:_MOST_THREADS])

    def _observe_collection(self, phase: str, _: dict[str, Any]) -> None:
        """The collector of garbage stops all threads."""
        if phase == "start":
            self._collection_began = time.monotonic()
        else:
            self._collecting += time.monotonic() - self._collection_began


def _lines(frame: FrameType | None) -> Iterator[tuple[str, bool]]:
    """A stack's files and lines, the innermost first, and whether each is ours."""
    while frame is not None:
        path, is_ours = Path(frame.f_code.co_filename), frame.f_code.co_filename.startswith(_PACKAGE)
        name = path.relative_to(_PACKAGE) if is_ours else Path(*path.parts[-2:])
        yield f"{name}:{frame.f_lineno}", is_ours
        frame = frame.f_back
