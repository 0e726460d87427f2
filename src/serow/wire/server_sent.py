"""Server-sent events: how OpenAI's and Anthropic's streams are framed."""

from typing import Any

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
