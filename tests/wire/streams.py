"""Streams of server-sent events, read as a client reads them, and events as the flow makes them."""

import json
from collections.abc import Iterable
from typing import Any

from serow.inference.events import Chosen, Delta, Done, Event, Prompted, ToolCallArguments, ToolCallEnd, ToolCallStart, Usage
from serow.wire.fold import Fold
from serow.wire.stream import Stream

USAGE = Usage(prompt_eval_count=22, prompt_cached_count=4, eval_count=13, thinking_count=5)
DONE = Done(reason="stop", usage=USAGE)
CUT = Done(reason="length", usage=USAGE)
TEXT: list[Event] = [Prompted(22), Delta("Hel"), Delta("lo"), DONE]
THOUGHT: list[Event] = [Prompted(22), Delta(thinking="Hm"), Delta(thinking="m."), Delta("Hi"), DONE]


def call(index: int = 0, name: str = "add", *pieces: str) -> list[Event]:
    """The events of one call."""
    ident, arguments = f"call_{index}", pieces or ('{"a": ', "1}")
    return [
        ToolCallStart(index, ident, name),
        *(ToolCallArguments(index, piece) for piece in arguments),
        ToolCallEnd(index, ident, name, "".join(arguments)),
    ]


def folded(events: Iterable[Event]) -> Fold:
    """The events of one choice as a whole."""
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold


def sent(stream: Stream[Chosen], events: Iterable[Event]) -> bytes:
    """The bytes of a stream of one choice."""
    return b"".join(stream.feed((0, event)) for event in events) + stream.finish()


def data_of(stream: bytes) -> list[Any]:
    """What the events hold; comments left out. Every event is whole."""
    assert stream.endswith(b"\n\n")
    found: list[Any] = []
    for event in stream.decode().removesuffix("\n\n").split("\n\n"):
        lines = [line for line in event.split("\n") if not line.startswith((":", "event: "))]
        names = [line.removeprefix("event: ") for line in event.split("\n") if line.startswith("event: ")]
        assert len(lines) <= 1 and all(line.startswith("data: ") for line in lines)
        for line in lines:
            value = line.removeprefix("data: ")
            found.append(value if value == "[DONE]" else json.loads(value))
        assert not names or names == [found[-1]["type"]]
    return found
