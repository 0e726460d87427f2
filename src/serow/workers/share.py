"""How much CPU time each client may have, for each kind of work, before that work takes only what others leave."""

import time
from collections import OrderedDict
from collections.abc import Callable

CREDIT = 1.0  # seconds that a client may use at once
RATE = 0.05  # seconds that come back in each second
_MOST = 1024  # that are remembered

Work = tuple[str, str]  # a client, "" for the server itself, and what is done for it


class Shares:
    """The credit of those that have used some lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used: OrderedDict[Work, tuple[float, float]] = OrderedDict()  # seconds, and when that was; the latest last

    def charge(self, work: Work, seconds: float) -> None:
        """The work took so much CPU time. The server's own work is never behind for what it did before."""
        if not work[0]:
            return
        self._used[work] = self._left_to_pay(work) + seconds, self._clock()
        self._used.move_to_end(work)
        while len(self._used) > _MOST:
            self._used.popitem(last=False)

    def credit(self, work: Work) -> float:
        """Seconds that may be used until others come first."""
        return CREDIT - self._left_to_pay(work)

    def _left_to_pay(self, work: Work) -> float:
        used, then = self._used.get(work, (0.0, 0.0))
        return max(0.0, used - RATE * (self._clock() - then))
