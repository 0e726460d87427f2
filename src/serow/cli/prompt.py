"""Lines from the terminal: editing, completion of commands, a history in the user's state directory."""

from collections.abc import Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import DummyHistory, FileHistory, History
from prompt_toolkit.shortcuts import CompleteStyle

_QUOTES = '"""'
_PLACEHOLDER = FormattedText([("ansibrightblack", "Send a message (/? for help)")])
_PLACEHOLDER_QUOTED = FormattedText([("ansibrightblack", "Press Enter to send")])


class Prompt:
    """Reads messages: one line, or several between triple quotes."""

    def __init__(self, history: Path | None, commands: Sequence[str]) -> None:
        self._history = history
        self._commands = commands
        self._session = self._open(history)

    def _open(self, history: Path | None) -> "PromptSession[str]":
        kept: History = FileHistory(str(history)) if history else DummyHistory()
        completer = WordCompleter(list(self._commands), sentence=True)
        style = CompleteStyle.READLINE_LIKE  # needs no room below the prompt
        return PromptSession(history=kept, completer=completer, complete_while_typing=False, complete_style=style)

    def keep_history(self, *, is_on: bool) -> None:
        """Remember what is typed from now on, or don't."""
        self._session = self._open(self._history if is_on else None)

    def read(self) -> str:
        """One message; raises EOFError at Ctrl-D and KeyboardInterrupt at Ctrl-C."""
        line = self._session.prompt(">>> ", placeholder=_PLACEHOLDER)
        return self.read_quoted(line) if line.startswith(_QUOTES) else line

    def read_quoted(self, text: str) -> str:
        """What is between triple quotes, reading on until they are closed; `text` begins with them."""
        text = text.removeprefix(_QUOTES)
        while not text.endswith(_QUOTES):
            text += "\n" + self._session.prompt("... ", placeholder=_PLACEHOLDER_QUOTED)
        return text.removesuffix(_QUOTES)
