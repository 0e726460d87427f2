"""An answer as it comes: the thinking, the text, calls of tools, and what the last record tells."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from serow.cli import terminal
from serow.cli.table import go_duration
from serow.cli.terminal import data, say_dim, tell
from serow.cli.wrap import WordWrap


class Answer:
    """Prints an answer: the thinking in grey between two lines that say so, then the text; calls of tools in grey.

    On a terminal they follow one another; in a pipe only the text goes to stdout, so that the answer stands alone.
    """

    def __init__(self, *, wraps_words: bool, hides_thinking: bool) -> None:
        self._wrap = WordWrap(max(0, terminal.width() - 1) if wraps_words else 0)
        self._hides_thinking = hides_thinking
        self._is_thinking = False
        self._ends_line = True

    def shows(self, thinking: str, text: str, calls: object = None) -> bool:
        """Whether there is something to be seen of a piece."""
        return bool(text or calls or (thinking and not self._hides_thinking))

    def add(self, thinking: str, text: str) -> None:
        """Print the next piece of each."""
        if thinking and not self._hides_thinking:
            self._open_thinking()
            self._grey(self._wrap.feed(thinking))
        if text:
            self._close_thinking()
            data(self._wrap.feed(text), nl=False)

    def call(self, name: str, arguments: Any) -> None:
        """Print a call of a tool, which nobody here answers."""
        self._close_thinking()
        self._grey(f"{self._wrap.flush()}calls {name}({json.dumps(arguments, ensure_ascii=False)})\n")

    def end(self) -> None:
        """Finish the last line and leave one empty."""
        self._close_thinking()
        data(f"{self._wrap.flush()}\n\n", nl=False)

    def _open_thinking(self) -> None:
        if not self._is_thinking:
            self._grey("Thinking...\n", bold=True)
        self._is_thinking = True

    def _close_thinking(self) -> None:
        if self._is_thinking:
            self._grey(self._wrap.flush())
            self._grey("" if self._ends_line else "\n")
            self._grey("...done thinking.\n\n", bold=True)
        self._is_thinking = False

    def _grey(self, text: str, *, bold: bool = False) -> None:
        if text:
            say_dim(text, bold=bold, err=not terminal.is_terminal())
            self._ends_line = text.endswith("\n")


def warn(last: Any, *, has_format: bool) -> bool:
    """Say on stderr what the server did otherwise than asked; whether the answer lacks the format that was asked for."""
    for warning in last.warnings:
        tell("warning", warning)
    is_cut = has_format and last.done_reason == "length" and last.format_valid is not True
    if is_cut and last.format_valid is None:  # Serow's own servers say it themselves
        tell("warning", "the answer was cut off before its end, so it does not fit the format")
    elif last.format_valid is False and not is_cut:
        tell("warning", "the answer does not fit the format")
    return is_cut or last.format_valid is False


@contextmanager
def waiting() -> Iterator[Callable[[], None]]:
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
