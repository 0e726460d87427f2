"""Server-sent events: how OpenAI's and Anthropic's streams are framed."""

from typing import Any, Protocol

from serow.errors import SerowError
from serow.inference.events import Event
from serow.wire.json import encode

CONTENT_TYPE = "text/event-stream"
COMMENT = b": ping\n\n"  # keeps a connection alive, and no client reads it
DONE = b"data: [DONE]\n\n"


def data(value: Any) -> bytes:
    """An event without a name."""
    return b"data: " + encode(value) + b"\n\n"


def named(value: dict[str, Any]) -> bytes:
    """An event that is named by its own `type`."""
    return f"event: {value['type']}\n".encode() + data(value)


class Stream(Protocol):
    """An answer as server-sent events, made from the events of one or more choices that run together."""

    def feed(self, choice: int, event: Event) -> bytes:
        """What an event adds, which may be nothing."""
        ...

    def finish(self) -> bytes:
        """The end, once every choice is done."""
        ...

    def fail(self, error: SerowError) -> bytes:
        """The end of an answer that broke off."""
        ...

    def ping(self) -> bytes:
        """What is sent when there was silence for a while."""
        ...
