"""What a dialect gives the server to answer with: events in its words, streamed or whole."""

from typing import Any, Protocol, TypeVar

from serow.errors import SerowError

T = TypeVar("T", contravariant=True)


class Stream(Protocol[T]):
    """An answer that is sent as it comes. Nothing is sent, no status either, before the first bytes that are not empty."""

    content_type: str
    has_pings: bool  # whether clients know something that may be sent after some silence

    def feed(self, event: T) -> bytes:
        """What an event adds, which may be nothing."""
        ...

    def finish(self) -> bytes:
        """The end, behind the last event."""
        ...

    def ping(self) -> bytes:
        """What is sent after some silence, also before the first event."""
        ...

    def fail(self, error: SerowError) -> bytes:
        """The end of an answer that broke off."""
        ...


class Whole(Protocol[T]):
    """An answer that is sent at its end, as one JSON value."""

    def add(self, event: T) -> None:
        """One event more."""
        ...

    def value(self) -> Any:
        """All of it; nothing is added any more."""
        ...
