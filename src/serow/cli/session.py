"""One conversation with a model: what it was told so far, how it is asked, how its answers are shown."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from serow.cli import attachments, inline, picture, progress, terminal
from serow.cli.table import go_duration
from serow.cli.terminal import data, say, say_dim, tell
from serow.cli.wrap import WordWrap


@dataclass
class Session:
    """A model, the settings of a conversation with it, and `context`: the tokens of what was said."""

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
    context: list[int] = field(default_factory=list)

    def load(self, client: Any) -> None:
        """Have the model loaded, so that the first answer comes quickly."""
        client.generate(self.model, keep_alive=self.keep_alive, think=self.think)

    def ask(self, client: Any, prompt: str) -> bool:
        """Ask, print the answer as it comes, and remember it; whether it has the format that was asked for.

        Ctrl-C raises KeyboardInterrupt and forgets the exchange.
        """
        found = attachments.extract(prompt, self.model, can_see=bool(self.capabilities & {"vision", "image"}))
        with attachments.named(found.paths):
            return self._ask(client, found.prompt, found.images)

    def _ask(self, client: Any, prompt: str, images: list[bytes]) -> bool:
        records = client.generate(
            self.model,
            prompt,
            system=self.system or None,
            context=self.context or None,
            format=self.format,
            options=self.options or None,
            images=images or None,
            think=self.think,
            keep_alive=self.keep_alive,
            stream=True,
        )
        last = self._draw(records, prompt) if "image" in self.capabilities else self._print(records)
        if last is None:
            return False
        if last.context:
            self.context = list(last.context)
        is_unfit = self._warn(last)
        if self.is_verbose:
            say("\n".join(summary(last)), err=True)
        return not is_unfit

    def _warn(self, last: Any) -> bool:
        """Say on stderr what the server did otherwise than asked; whether the answer lacks the format that was asked for."""
        for warning in last.warnings:
            tell("warning", warning)
        is_cut = bool(self.format) and last.done_reason == "length"
        if is_cut:
            tell("warning", "the answer was cut off before its end, so it does not fit the format")
        elif last.format_valid is False:
            tell("warning", "the answer does not fit the format")
        return is_cut or last.format_valid is False

    def _print(self, records: Iterable[Any]) -> Any:
        last = None
        answer = Answer(wraps_words=self.wraps_words, hides_thinking=self.hides_thinking)
        with _waiting() as stop_waiting:
            for last in records:
                if last.response or (last.thinking and not self.hides_thinking):
                    stop_waiting()
                answer.add(last.thinking or "", last.response or "")
        answer.end()
        return last

    def _draw(self, records: Iterable[Any], prompt: str) -> Any:
        last = None
        with progress.bar(is_bytes=False) as shown:
            for last in records:
                if last.total:
                    shown.update("drawing", last.completed, last.total)
        if last and last.image:
            path = picture.save(last.image, prompt)
            inline.show(path.read_bytes())
            data(str(path))
        return last


class Answer:
    """Prints an answer: the thinking in grey between two lines that say so, then the response.

    On a terminal they follow one another; in a pipe the thinking goes to stderr, so that the answer stands alone.
    """

    def __init__(self, *, wraps_words: bool, hides_thinking: bool) -> None:
        self._wrap = WordWrap(max(0, terminal.width() - 1) if wraps_words else 0)
        self._hides_thinking = hides_thinking
        self._is_thinking = False
        self._ends_line = True

    def add(self, thinking: str, response: str) -> None:
        """Print the next piece of each."""
        if thinking and not self._hides_thinking:
            self._open_thinking()
            self._think(self._wrap.feed(thinking))
        if response:
            self._close_thinking()
            data(self._wrap.feed(response), nl=False)

    def end(self) -> None:
        """Finish the last line and leave one empty."""
        self._close_thinking()
        data(f"{self._wrap.flush()}\n\n", nl=False)

    def _open_thinking(self) -> None:
        if not self._is_thinking:
            self._think("Thinking...\n", bold=True)
        self._is_thinking = True

    def _close_thinking(self) -> None:
        if self._is_thinking:
            self._think(self._wrap.flush())
            self._think("" if self._ends_line else "\n")
            self._think("...done thinking.\n\n", bold=True)
        self._is_thinking = False

    def _think(self, text: str, *, bold: bool = False) -> None:
        if text:
            say_dim(text, bold=bold, err=not terminal.is_terminal())
            self._ends_line = text.endswith("\n")


@contextmanager
def _waiting() -> Iterator[Callable[[], None]]:
    """A spinner on a terminal's stderr; what it yields takes it away."""
    if terminal.is_plain(err=True):
        yield lambda: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield status.stop


def summary(last: Any) -> Iterator[str]:
    """Durations and rates of an answer's last record, as Ollama's command line prints them."""
    if last.total_duration:
        yield f"total duration:       {go_duration(last.total_duration)}"
    if last.load_duration:
        yield f"load duration:        {go_duration(last.load_duration)}"
    for name, count, duration in (
        ("prompt eval", last.prompt_eval_count, last.prompt_eval_duration),
        ("eval", last.eval_count, last.eval_duration),
    ):
        if count:
            yield f"{name} count:".ljust(22) + f"{count} token(s)"
        if count and duration:
            yield f"{name} duration:".ljust(22) + go_duration(duration)
            yield f"{name} rate:".ljust(22) + f"{count / duration * 1e9:.2f} tokens/s"
