"""Models that fail to load again and again: a growing pause in which requests get the last error at once."""

from dataclasses import dataclass

from serow.errors import EngineError

Key = tuple[object, ...]  # what fails: made anew, it is something else
LONGEST_PAUSE = 60.0  # seconds
_MAX_REMEMBERED = 64


@dataclass(frozen=True)
class _Failure:
    error: EngineError
    count: int
    until: float


class Backoff:
    """Failures in a row for each model. The first costs nothing, the second a second, then twice as long each time."""

    def __init__(self) -> None:
        self._failures: dict[Key, _Failure] = {}

    def failed(self, key: Key, error: EngineError, now: float) -> None:
        """Remember one more failure; beyond a bound the oldest is forgotten."""
        before = self._failures.pop(key, None)
        count = before.count + 1 if before else 1
        pause = min(2.0 ** (count - 2), LONGEST_PAUSE) if count > 1 else 0.0
        if len(self._failures) == _MAX_REMEMBERED:
            del self._failures[next(iter(self._failures))]
        self._failures[key] = _Failure(error, count, now + pause)

    def succeeded(self, key: Key) -> None:
        """Begin anew."""
        self._failures.pop(key, None)

    def error(self, key: Key, now: float) -> EngineError | None:
        """What to tell requests at the moment, or None when the model may be tried."""
        failure = self._failures.get(key)
        return failure.error if failure and now < failure.until else None
