"""The events of one answer as a whole: what a client gets that does not stream."""

from dataclasses import dataclass, field

from serow.api.types import Logprob
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
class Fold:
    """All that was said, thought and called, and how it ended."""

    text: str = ""
    thinking: str = ""
    tool_calls: list[ToolCallEnd] = field(default_factory=list)
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
                self.text += event.text
                self.thinking += event.thinking
                self.logprobs += event.logprobs
            case ToolCallStart() | ToolCallArguments():
                self.logprobs += event.logprobs
            case ToolCallEnd():
                self.tool_calls.append(event)
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

    @property
    def usage(self) -> Usage:
        """What it cost; nothing when it did not come to that."""
        return self.done.usage if self.done else Usage()

    @property
    def warnings(self) -> list[str]:
        """What the flow has to say about it."""
        return self.done.warnings if self.done else []
