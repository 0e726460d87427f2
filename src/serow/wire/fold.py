"""The events of one answer as a whole: what a client gets that does not stream."""

from dataclasses import dataclass, field
from typing import Literal

from serow.engines.base import Logprob
from serow.inference.events import (
    Delta,
    Done,
    Echo,
    Event,
    Picture,
    Prompted,
    Rendered,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    Vectors,
)


@dataclass
class Part:
    """A stretch of thinking or of text, or a call, in the order in which they came."""

    kind: Literal["thinking", "text", "call"]
    pieces: list[str] = field(default_factory=list)
    call: ToolCallEnd | None = None
    logprobs: list[Logprob] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The pieces joined."""
        return "".join(self.pieces)


@dataclass
class Fold:
    """All that was said, thought and called, and how it ended."""

    parts: list[Part] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    prompted: Prompted | None = None
    rendered: Rendered | None = None
    echo: Echo | None = None
    pictures: list[Picture] = field(default_factory=list)
    vectors: Vectors | None = None
    done: Done | None = None

    def add(self, event: Event) -> None:
        """One event more."""
        match event:
            case Delta():
                self._add_delta(event)
            case ToolCallStart() | ToolCallArguments():
                self.logprobs += event.logprobs
            case ToolCallEnd():
                self.parts.append(Part("call", call=event))
                self.logprobs += event.logprobs
            case Prompted():
                self.prompted = event
            case Rendered():
                self.rendered = event
            case Echo():
                self.echo = event
            case Picture():
                self.pictures.append(event)
            case Vectors():
                self.vectors = event
            case Done():
                self.done = event

    def _add_delta(self, delta: Delta) -> None:
        self.logprobs += delta.logprobs
        piece = delta.thinking or delta.text
        if not piece:
            return
        kind: Literal["thinking", "text"] = "thinking" if delta.thinking else "text"
        if not self.parts or self.parts[-1].kind != kind:
            self.parts.append(Part(kind))
        self.parts[-1].pieces.append(piece)
        self.parts[-1].logprobs += delta.logprobs

    @property
    def text(self) -> str:
        """All text."""
        return "".join(part.text for part in self.parts if part.kind == "text")

    @property
    def thinking(self) -> str:
        """All thinking."""
        return "".join(part.text for part in self.parts if part.kind == "thinking")

    @property
    def tool_calls(self) -> list[ToolCallEnd]:
        """All calls, in order."""
        return [part.call for part in self.parts if part.call is not None]

    @property
    def usage(self) -> Usage:
        """What it cost; nothing when it did not come to that."""
        return self.done.usage if self.done else Usage()

    @property
    def warnings(self) -> list[str]:
        """What the flow has to say about it."""
        return self.done.warnings if self.done else []
