"""How much each client may have of something until others come first: of CPU time for each kind of work, or of refusals."""

import os
import time
from collections import OrderedDict
from collections.abc import Callable

CREDIT = 0.75  # seconds of CPU time that a client may use at once
RATE = 0.025 * (os.cpu_count() or 1)  # of these that come back in each second
_MOST = 1024  # that are remembered

Work = tuple[str, str]  # a client, "" for the server itself, and what is done for it


class Shares:
    """The credit of those that have used some lately; `rate` of it comes back in each second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, credit: float = CREDIT, rate: float = RATE) -> None:
        self._clock = clock
        self._credit = credit
        self._rate = rate
        self._used: OrderedDict[Work, tuple[float, float]] = OrderedDict()  # how much, and when that was; the latest last

    def charge(self, work: Work, used: float) -> None:
        """The work took so much. The server's own work is never behind for what it did before."""
        if not work[0]:
            return
        self._used[work] = self._left_to_pay(work) + used, self._clock()
        self._used.move_to_end(work)
        while len(self._used) > _MOST:
            self._used.popitem(last=False)

    def credit(self, work: Work) -> float:
        """How much may be used until others come first; below 0, what is owed."""
        return self._credit - self._left_to_pay(work)

    def wait(self, work: Work) -> float:
        """Seconds until there is credit again."""
        return max(0.0, -self.credit(work)) / self._rate

    def _left_to_pay(self, work: Work) -> float:
        used, then = self._used.get(work, (0.0, 0.0))
        return max(0.0, used - self._rate * (self._clock() - then))


class Account:
    """What one call has cost so far: paid while it works, so that calls which run together have one credit."""

    def __init__(self, shares: Shares, work: Work) -> None:
        self._shares = shares
        self._work = work
        self._most = shares.credit(work)
        self._paid = 0.0

    def pay(self, used: float) -> None:
        """It has cost so much since it began."""
        if used > self._paid:
            self._shares.charge(self._work, used - self._paid)
            self._paid = used

    @property
    def is_empty(self) -> bool:
        """Whether others come first from now on."""
        return self._paid >= self._most or self._shares.credit(self._work) <= 0
