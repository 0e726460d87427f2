"""How many bytes a second may come or go: a bucket that fills as time goes by."""

import asyncio
import time

_BURST = 0.25  # seconds' worth of bytes that may come at once


class Rate:
    """A limit that several downloads share; without one nobody waits. `limit`: bytes a second, 0 is none."""

    def __init__(self, limit: int = 0, above: "Rate | None" = None) -> None:
        self._limit = limit
        self._above = above
        self._free_at = 0.0  # time.monotonic() at which the bytes taken so far are paid for

    async def take(self, count: int) -> None:
        """Wait until so many bytes may have come, here and in what lies above."""
        if self._above is not None:
            await self._above.take(count)
        if not self._limit:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - _BURST) + count / self._limit
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
