"""A server that nobody uses ends by itself (SEROW_IDLE_TIMEOUT): no model in memory, no request, for that long."""

import math
import time
from collections.abc import Callable


class Idle:
    """Told again and again whether there is work; `is_over` says when there was none for `timeout` seconds."""

    def __init__(self, timeout: float, now: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._now = now
        self._since = now()

    @property
    def is_possible(self) -> bool:
        """Whether the server ever ends by itself."""
        return self._timeout < math.inf

    def is_over(self, *, is_busy: bool) -> bool:
        """Take in what is; whether it is time to end."""
        if is_busy:
            self._since = self._now()
        return self._now() - self._since >= self._timeout
