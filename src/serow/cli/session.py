"""One conversation with a model: what was said so far, how it is asked, how its answers are shown."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serow.cli import attachments, drawing
from serow.cli.answer import Answer, summary, waiting, warn
from serow.cli.attachments import Attached
from serow.cli.terminal import say


@dataclass
class Session:
    """A model, the settings of a conversation with it, and `messages`: what was said, as /api/chat has it."""

    model: str
    capabilities: frozenset[str] = frozenset()
    options: dict[str, Any] = field(default_factory=dict)
    system: str = ""
    format: Any = None
    think: bool | str | None = None
    keep_alive: str | None = None
    hides_thinking: bool = False
    wraps_words: bool = True
    is_verbose: bool = False
    output: Path | None = None  # where a picture is saved; None: in the working directory, by its description
    messages: list[dict[str, Any]] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)  # of the pictures in the messages, in their order

    def load(self, client: Any) -> None:
        """Have the model loaded, so that the first answer comes quickly."""
        client.generate(self.model, keep_alive=self.keep_alive, think=self.think)

    def forget(self) -> None:
        """Begin anew."""
        self.messages, self.paths = [], []

    def ask(self, client: Any, prompt: str) -> bool:
        """Ask a single question and print the answer as it comes; whether it has the format that was asked for."""
        found = self._attached(prompt)
        if self._draws:
            drawing.check(found.prompt, has_pictures=bool(found.images))
        with attachments.named(found.paths):
            records = client.generate(
                self.model, found.prompt, system=self.system or None, images=found.images or None, **self._settings()
            )
            last = drawing.show(records, found.prompt, self.output) if self._draws else self._print(records)
        return self._finish(last)

    def talk(self, client: Any, message: str) -> bool:
        """Go on with the conversation: ask, print the answer as it comes, and remember both, pictures too.

        Ctrl-C raises KeyboardInterrupt and forgets the exchange.
        """
        if self._draws:
            return self.ask(client, message)
        found = self._attached(message)
        asked: dict[str, Any] = {"role": "user", "content": found.prompt}
        if found.images:
            asked["images"] = found.images
        paths = [*self.paths, *found.paths]
        said: dict[str, Any] = {"role": "assistant", "content": ""}
        with attachments.named(paths):
            records = client.chat(self.model, [*self._heading(), *self.messages, asked], **self._settings())
            last = self._print(_remembered(records, said))
        if last is not None:
            self.messages += [asked, said]
            self.paths = paths
        return self._finish(last)

    @property
    def _draws(self) -> bool:
        return "image" in self.capabilities

    def _attached(self, prompt: str) -> Attached:
        return attachments.extract(prompt, self.model, can_see=bool(self.capabilities & {"vision", "image"}))

    def _heading(self) -> list[dict[str, Any]]:
        return [{"role": "system", "content": self.system}] if self.system else []

    def _settings(self) -> dict[str, Any]:
        """What every question says of how it is to be answered."""
        return {
            "format": self.format,
            "options": self.options or None,
            "think": self.think,
            "keep_alive": self.keep_alive,
            "stream": True,
        }

    def _finish(self, last: Any) -> bool:
        if last is None:
            return False
        is_unfit = warn(last, has_format=bool(self.format))
        if self.is_verbose:
            say("\n".join(summary(last)), err=True)
        return not is_unfit

    def _print(self, records: Iterable[Any]) -> Any:
        last = None
        answer = Answer(wraps_words=self.wraps_words, hides_thinking=self.hides_thinking)
        with waiting() as stop_waiting:
            for last in records:
                thinking, text, calls = _piece(last)
                if answer.shows(thinking, text, calls):
                    stop_waiting()
                answer.add(thinking, text)
                for call in calls:
                    answer.call(call.function.name, call.function.arguments)
        answer.end()
        return last


def _piece(record: Any) -> tuple[str, str, list[Any]]:
    """Thinking, text and calls of one record, of /api/generate or /api/chat."""
    message = getattr(record, "message", None)
    if message is None:
        return record.thinking or "", record.response or "", []
    return message.thinking or "", message.content or "", list(message.tool_calls or ())


def _remembered(records: Iterable[Any], message: dict[str, Any]) -> Iterator[Any]:
    """The records as they come; the message gathers what they say."""
    for record in records:
        thinking, text, calls = _piece(record)
        message["content"] += _sendable(text)
        if thinking:
            message["thinking"] = message.get("thinking", "") + _sendable(thinking)
        if calls:
            message.setdefault("tool_calls", []).extend(call.model_dump() for call in calls)
        yield record


def _sendable(text: str) -> str:
    """The text with halves of characters, which a broken server may send and none takes back, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
