"""What the page's view "Now" shows of the past: errors of the last hour, tokens a second of the last ten minutes.

Kept from each exchange when it is over, so that a token costs nothing; bounded in number.
"""

import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus

from msgspec import Struct

from serow.errors import SerowError
from serow.server.exchange import CLIENT_LEFT, Exchange

ERROR_AGE = 3600.0  # seconds
SPAN = 600.0  # seconds of the chart
STEP = 5.0  # seconds of one of its points
_MOST_ERRORS = 200
_MOST_ANSWERS = 4096
_LONGEST_TEXT = 500  # characters of an error


class Failure(Struct, frozen=True):
    """A request that ended in an error; `at` in RFC 3339."""

    at: str
    status: int
    route: str
    error: str
    id: str


class _Failed(Struct, frozen=True):
    moment: float  # of time.time
    client: str
    failure: Failure


class _Answer(Struct, frozen=True):
    begin: float  # of time.perf_counter
    end: float
    num_tokens: int


class Recent:
    """An observer of exchanges."""

    def __init__(self) -> None:
        self._failed: deque[_Failed] = deque(maxlen=_MOST_ERRORS)
        self._answers: deque[_Answer] = deque(maxlen=_MOST_ANSWERS)

    def observe(self, exchange: Exchange) -> None:
        """Keep what an exchange leaves behind."""
        timeline = exchange.timeline
        if timeline.eval_count:
            self._answers.append(_Answer(timeline.first_token_at / 1e9, timeline.last_token_at / 1e9, timeline.eval_count))
        if exchange.status >= 400 and exchange.status != CLIENT_LEFT:
            moment = datetime.now(UTC)
            text = _words(exchange)
            at = moment.isoformat(timespec="seconds").replace("+00:00", "Z")
            failure = Failure(at, exchange.status, exchange.route, text[:_LONGEST_TEXT], exchange.id)
            self._failed.append(_Failed(moment.timestamp(), exchange.client, failure))

    def errors(self, client: str | None = None) -> list[Failure]:
        """Errors of the last hour, the latest first; of one client, or of all."""
        oldest = time.time() - ERROR_AGE
        found = (each for each in reversed(self._failed) if each.moment >= oldest)
        return [each.failure for each in found if client in (None, each.client)]

    def rates(self) -> list[float]:
        """Tokens a second, a point for each STEP of the SPAN, the oldest first."""
        now = time.perf_counter()
        sums = [0.0] * int(SPAN / STEP)
        for answer in self._answers:
            for index, share in _shares(answer, now - SPAN):
                if index < len(sums):
                    sums[index] += answer.num_tokens * share
        return [round(tokens / STEP, 1) for tokens in sums]


def _shares(answer: _Answer, start: float) -> Iterator[tuple[int, float]]:
    """The points that an answer's tokens fall into, with each one's share of them."""
    begin, end = max(0.0, answer.begin - start), answer.end - start
    duration = max(answer.end - answer.begin, 1e-9)
    if end < 0:
        return
    for index in range(int(begin / STEP), int(end / STEP) + 1):
        overlap = min(end, (index + 1) * STEP) - max(begin, index * STEP)
        yield index, (overlap / duration if end > begin else 1.0)


def _words(exchange: Exchange) -> str:
    """What went wrong, as far as the client was told."""
    if isinstance(exchange.error, SerowError):
        return str(exchange.error)
    return "internal error" if exchange.status >= 500 else HTTPStatus(exchange.status).phrase.lower()
