"""The conversation at a prompt: messages, and commands that begin with a slash, as Ollama's command line has them."""

from collections.abc import Callable
from typing import Any, Protocol, get_args

import ollama

from serow.cli import repl_help
from serow.cli.attachments import AttachmentError, names_picture
from serow.cli.client import Client
from serow.cli.drawing import SETTINGS
from serow.cli.help import laid_out
from serow.cli.models import installed
from serow.cli.session import Session
from serow.cli.show import describe, part_of
from serow.cli.terminal import say, tell, width
from serow.errors import RequestError
from serow.inference.ask import ThinkLevel
from serow.options import read_option

_QUOTES = '"""'
_THINK_LEVELS = get_args(ThinkLevel)
_PARTS = {
    "license": "No license was specified for this model.",
    "modelfile": "No Modelfile was specified for this model.",
    "system": "No system message was specified for this model.",
    "template": "No prompt template was specified for this model.",
}


class Reader(Protocol):
    """Where messages come from; see prompt.Prompt."""

    def read(self) -> str: ...
    def read_quoted(self, text: str) -> str: ...
    def keep_history(self, *, is_on: bool) -> None: ...


class Leave(Exception):
    """The user is done."""


class Repl:
    """Reads messages until /bye or Ctrl-D; Ctrl-C stops an answer, not the program."""

    def __init__(self, client: Client, session: Session, reader: Reader) -> None:
        self._client = client
        self._session = session
        self._reader = reader
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "/set": self._set,
            "/show": self._show,
            "/load": self._load,
            "/save": self._save,
            "/list": self._list,
            "/clear": self._clear,
            "/bye": self._bye,
            "/exit": self._bye,
            "/help": self._help,
            "/?": self._help,
        }
        self._settings: dict[str, Callable[[list[str]], None]] = {
            "parameter": self._set_parameter,
            "system": self._set_system,
            "history": lambda _: self._reader.keep_history(is_on=True),
            "nohistory": lambda _: self._reader.keep_history(is_on=False),
            "wordwrap": lambda _: self._switch("wraps_words", True, "Set 'wordwrap' mode."),
            "nowordwrap": lambda _: self._switch("wraps_words", False, "Set 'nowordwrap' mode."),
            "verbose": lambda _: self._switch("is_verbose", True, "Set 'verbose' mode."),
            "quiet": lambda _: self._switch("is_verbose", False, "Set 'quiet' mode."),
            "format": self._set_format,
            "noformat": lambda _: self._switch("format", None, "Disabled format."),
            "think": self._set_think,
            "nothink": lambda _: self._switch("think", False, "Set 'nothink' mode."),
        }

    def run(self) -> None:
        """Go on until the user leaves."""
        while True:
            try:
                self._take(self._reader.read())
            except KeyboardInterrupt:
                say("Use Ctrl + d or /bye to exit.")
            except EOFError:
                say()
                return
            except Leave:
                return

    def _take(self, message: str) -> None:
        """Do what one message says; what the server refuses is shown and the conversation goes on."""
        try:
            if message.startswith("/") and not names_picture(message):
                self._command(message)
            elif message.strip():
                self._ask(message)
        except ollama.ResponseError as error:
            tell("error", error.error)
        except (AttachmentError, RequestError) as error:
            tell("error", str(error))
        except UnicodeEncodeError:
            tell("error", "only text that is UTF-8 can be sent")

    def _ask(self, message: str) -> None:
        try:
            self._session.talk(self._client, message)
        except KeyboardInterrupt:
            say("\n")

    def _command(self, message: str) -> None:
        name, *words = message.split()
        command = self._commands.get(name)
        if command is None:
            say(f"Unknown command '{name}'. Type /? for help")
        elif name == "/set" and words[:1] == ["system"]:
            self._set_system([message.split(None, 2)[2]] if len(words) > 1 else [])
        else:
            command(words)

    def _explain(self, text: str) -> None:
        say(laid_out(text, width()))

    def _set(self, words: list[str]) -> None:
        if not words:
            self._explain(repl_help.SET)
        elif words[0] in SETTINGS:
            self._set_parameter([SETTINGS[words[0]], *words[1:]])
        elif words[0] in self._settings:
            self._settings[words[0]](words[1:])
        else:
            say(f"Unknown command '/set {words[0]}'. Type /? for help")

    def _switch(self, name: str, value: Any, said: str) -> None:
        setattr(self._session, name, value)
        say(said)

    def _set_parameter(self, words: list[str]) -> None:
        if len(words) < 2:
            self._explain(repl_help.PARAMETER)
            return
        name, *values = words
        self._session.options[name] = read_option(name, values)
        say(f"Set parameter '{name}' to '{', '.join(values)}'")

    def _set_system(self, words: list[str]) -> None:
        """The message as it was typed; it stands before all that was said."""
        if not words:
            self._explain(repl_help.SET)
            return
        text = words[0]
        self._session.system = self._reader.read_quoted(text) if text.startswith(_QUOTES) else text
        say("Set system message.")

    def _set_format(self, words: list[str]) -> None:
        if words != ["json"]:
            say("Invalid or missing format. For 'json' mode use '/set format json'")
            return
        self._switch("format", "json", "Set format to 'json' mode.")

    def _set_think(self, words: list[str]) -> None:
        if "thinking" not in self._session.capabilities:
            tell("warning", f'model "{self._session.model}" does not support thinking output')
        level = words[0] if words else ""
        if level and level not in _THINK_LEVELS:
            say(f"Invalid think level. Choose one of: {', '.join(_THINK_LEVELS)}")
            return
        self._switch("think", level or True, f"Set 'think' mode to '{level}'." if level else "Set 'think' mode.")

    def _show(self, words: list[str]) -> None:
        if not words:
            self._explain(repl_help.SHOW)
            return
        part = words[0]
        info = self._client.show_all(self._session.model, system=self._session.system, options=self._session.options)
        if part == "info":
            say(describe(info))
        elif part == "parameters":
            self._show_parameters(info.get("parameters", ""))
        elif part in _PARTS:
            say(part_of(info, part) or _PARTS[part])
        else:
            say(f"Unknown command '/show {part}'. Type /? for help")

    def _show_parameters(self, parameters: str) -> None:
        say("Model defined parameters:")
        for line in parameters.splitlines() or ["No additional parameters were specified for this model."]:
            say(f"  {line}")
        if self._session.options:
            say("\nUser defined parameters:")
            for name, value in self._session.options.items():
                shown = ", ".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else value
                say(f"  {name:<30} {shown}")
        say()

    def _load(self, words: list[str]) -> None:
        if len(words) != 1:
            say("Usage:\n  /load <modelname>")
            return
        say(f"Loading model '{words[0]}'")
        capabilities = frozenset(self._client.show_all(words[0]).get("capabilities") or ())
        self._client.generate(words[0], keep_alive=self._session.keep_alive)
        self._session.model, self._session.capabilities = words[0], capabilities
        self._session.forget()

    def _save(self, words: list[str]) -> None:
        if len(words) != 1:
            say("Usage:\n  /save <modelname>")
            return
        session = self._session
        told = [{name: message[name] for name in ("role", "content")} for message in session.messages if message["content"]]
        if session.paths:
            tell("warning", "pictures are not saved, what was said of them is")
        self._client.create(
            words[0],
            from_=session.model,
            system=session.system or None,
            parameters=session.options or None,
            messages=told or None,
        )
        say(f"Created new model '{words[0]}'")

    def _list(self, words: list[str]) -> None:
        say(installed(self._client, words[0] if words else ""))

    def _clear(self, _: list[str]) -> None:
        self._session.forget()
        say("Cleared session context")

    def _bye(self, _: list[str]) -> None:
        raise Leave

    def _help(self, words: list[str]) -> None:
        texts = {
            "set": repl_help.SET,
            "show": repl_help.SHOW,
            "shortcut": repl_help.SHORTCUTS,
            "shortcuts": repl_help.SHORTCUTS,
        }
        self._explain(texts.get(words[0].removeprefix("/") if words else "", repl_help.COMMANDS))
