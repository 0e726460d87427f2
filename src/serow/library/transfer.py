"""Trying until it is there: when a part is asked for again, and when to give up (LIB-10).

1. a try that brought bytes begins the waiting anew, at one second;
2. a broken connection, a 5xx, a name that does not resolve: 1, 2, 4 … 60 s, each a little less by chance;
3. a link to storage that has ended: the next try asks the registry for another, at once;
4. 429 and 503: all parts wait as long as the registry says;
5. a try that brings less than a KiB in half a minute is broken off, and brought nothing;
6. ten tries in a row while no part got anything: enough.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from serow.errors import RegistryError, RegistryRefused
from serow.registries.base import Busy, Interrupted, LinkExpired

_REFUSED_LINKS = 3  # fresh links in a row that are refused
_WORTH = 1024  # bytes


@dataclass(frozen=True)
class Pace:
    """How long to wait, in seconds, and how often to try."""

    first: float = 1.0
    longest: float = 60.0
    tries: int = 10
    window: float = 30.0  # over which a part's speed is compared with its neighbours'


class Persistence:
    """What the parts of one download share: when bytes came last, and until when all have to wait."""

    def __init__(self, pace: Pace, tell: Callable[[str], None]) -> None:
        self.pace = pace
        self._tell = tell
        self._last_byte = 0.0  # time.monotonic()
        self._paused_until = 0.0

    def arrived(self) -> None:
        """Some part got a byte."""
        self._last_byte = time.monotonic()

    async def ready(self) -> None:
        """Wait while the registry wants everybody to wait."""
        await asyncio.sleep(max(0.0, self._paused_until - time.monotonic()))

    def pause(self, host: str, seconds: float) -> None:
        """Let all parts wait."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)
        self._tell(f"waiting {seconds:.0f} s as {host} asks")

    def tell(self, text: str) -> None:
        """Say what happens, to people."""
        self._tell(text)

    def has_come_since(self, moment: float) -> bool:
        """Whether any part got a byte since a moment."""
        return self._last_byte > moment


class Tries:
    """The tries of one part."""

    def __init__(self, shared: Persistence, host: str) -> None:
        self._shared = shared
        self._host = host
        self._num_dry = 0
        self._dry_since = 0.0
        self._num_links = 0

    def brought(self) -> None:
        """This try brought something."""
        self._shared.arrived()
        self._num_dry = self._num_links = 0

    def watch(self) -> "Watch":
        """Watch what a new try brings."""
        return Watch(self, self._shared.pace.window)

    async def again(self, failure: Interrupted) -> None:
        """Wait before the next try; raises RegistryError when there should be none."""
        if not self._num_dry or self._shared.has_come_since(self._dry_since):
            self._num_dry, self._dry_since = 0, time.monotonic()
        self._num_dry += 1
        if self._num_dry >= self._shared.pace.tries:
            raise RegistryError(f"max retries exceeded: {failure.reason}")
        if isinstance(failure, LinkExpired):
            self._num_links += 1
            if self._num_links >= _REFUSED_LINKS:
                raise RegistryRefused(failure.reason)
            if self._num_links == 1:
                return
        wait = min(self._shared.pace.longest, self._shared.pace.first * 2.0 ** (self._num_dry - 1))
        if isinstance(failure, Busy):
            self._shared.pause(self._host, wait if failure.seconds is None else failure.seconds)
        else:
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))


class Watch:
    """What one try brings, so that a drip does not count: `with tries.watch() as watch`, `watch.took` for what comes."""

    def __init__(self, tries: Tries, window: float) -> None:
        self._tries = tries
        self._window = window
        self._since = time.monotonic()
        self._count = 0  # bytes of this window
        self._num_new = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """A try that breaks off has brought something, unless it was a drip."""
        passed = time.monotonic() - self._since
        if self._num_new and self._count * self._window >= passed * _WORTH:
            self._tries.brought()

    def took(self, count: int, num_new: int) -> float | None:
        """Note some bytes; at the end of a window how many came in a second. Raises Interrupted for a drip.

        `num_new`: how many of them were not here before.
        """
        self._count += count
        self._num_new += num_new
        if self._num_new >= _WORTH:
            self._tries.brought()
        passed = time.monotonic() - self._since
        if passed <= self._window:
            return None
        if self._count < _WORTH:
            raise Interrupted("too slow")
        rate, self._since, self._count, self._num_new = self._count / passed, time.monotonic(), 0, 0
        return rate


class Speeds:
    """How quick the parts of one download are, so that one which crawls is noticed."""

    def __init__(self, window: float) -> None:
        self.window = window
        self._rates: dict[int, float] = {}

    def is_crawling(self, number: int, rate: float) -> bool:
        """Note a part's bytes a second; whether that is less than a tenth of its neighbours' median."""
        self._rates[number] = rate
        others = sorted(value for other, value in self._rates.items() if other != number)
        return len(others) >= 2 and rate < others[len(others) // 2] / 10

    def forget(self, number: int) -> None:
        """A part is whole, or is begun anew."""
        self._rates.pop(number, None)
