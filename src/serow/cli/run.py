"""`serow run`: one answer, or a conversation at a prompt."""

import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from serow.cli import help, progress
from serow.cli.advice import advise
from serow.cli.models import MODEL
from serow.duration import parse_duration
from serow.errors import RequestError, SerowError
from serow.options import TABLE, read_option

if TYPE_CHECKING:
    from serow.cli.client import Client
    from serow.cli.session import Session

_THINK = {"true": True, "false": False}
_LEVELS = ("low", "medium", "high", "max")


_EXAMPLES = (
    ('serow run MODEL "Why?"', "one answer"),
    ('serow run MODEL "Sum up:" < notes.txt', "about a text that is piped in"),
    ('serow run MODEL "Describe ./cat.png"', "about a picture"),
    ('serow run MODEL --format json "List"', "an answer for programs"),
)


class _Run(help.Command):
    """Takes a bare `--think` for `--think=true`: its value is never the next word, which belongs to the prompt."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Fill in the value, up to a `--`; raises UsageError for a level that stands alone."""
        end = args.index("--") if "--" in args else len(args)
        for name, word in pairwise(args[:end]):
            if name == "--think" and word in (*_THINK, *_LEVELS):
                raise click.UsageError(f"--think takes its level behind an equals sign: --think={word}", ctx)
        return super().parse_args(ctx, ["--think=true" if arg == "--think" else arg for arg in args[:end]] + args[end:])


class _ThinkOption(click.Option):
    """Shows in the help that its value is optional, and where it stands."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The name with its value, and the help."""
        return "--think[=LEVEL]", self.help or ""


class _Think(click.ParamType[bool | str]):
    name = "true|false|low|medium|high|max"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool | str:
        """A switch or a level."""
        if value in _LEVELS:
            return str(value)
        if value not in _THINK:
            self.fail("must be true, false, low, medium, high or max", param, ctx)
        return _THINK[value]


class _Format(click.ParamType[Any]):
    name = "json|schema"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """`json`, a JSON Schema, or the path of a file that holds one."""
        if value == "json":
            return value
        try:
            schema = json.loads(value if value.lstrip().startswith("{") else Path(value).read_text(encoding="utf-8"))
        except OSError as error:
            self.fail(f"can't read {value}: {(error.strerror or 'unknown fault').lower()}", param, ctx)
        except (ValueError, RecursionError):
            self.fail("is not JSON", param, ctx)
        if not isinstance(schema, dict):
            self.fail("is not a JSON object", param, ctx)
        return schema

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """`json`, or a file."""
        return (
            [CompletionItem("json")]
            if incomplete and "json".startswith(incomplete)
            else [CompletionItem(incomplete, type="file")]
        )


_TEXTS = {"negative_prompt": "text", "scheduler": "name"}


class _Option(click.ParamType[Any]):
    """An option of a request, checked here so that a mistake shows before anything is loaded."""

    def __init__(self, option: str) -> None:
        self._option = option
        self.name = {int: "int", float: "float"}.get(TABLE[option][0], _TEXTS.get(option, "number"))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value by the option's own type and range."""
        try:
            return read_option(self._option, [value])
        except RequestError as error:
            self.fail(str(error), param, ctx)


class _KeepAlive(click.ParamType[str]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """A duration with a unit, checked here so that a mistake shows before anything is loaded."""
        try:
            parse_duration(value)
        except RequestError as error:
            self.fail(str(error), param, ctx)
        return str(value)


@click.command(cls=_Run, sections={"Examples": _EXAMPLES})
@MODEL
@click.argument("prompt", nargs=-1)
@click.option("--format", type=_Format(), help="Answer in JSON, or as a JSON Schema (a file, or the schema itself) says.")
@click.option("--think", cls=_ThinkOption, type=_Think(), help="Think before answering: true, false, low, medium, high, max.")
@click.option("--hidethinking", is_flag=True, help="Hide the thinking.")
@click.option("--keepalive", type=_KeepAlive(), help="How long the model stays loaded: 5m, 1h30m, -1m for ever.")
@click.option("--nowordwrap", is_flag=True, help="Don't break lines between words.")
@click.option("--verbose", is_flag=True, help="Show durations and rates.")
@click.option("--insecure", is_flag=True, help="Use an insecure registry.")
@click.option("--width", type=_Option("width"), help="Pixels of a picture.")
@click.option("--height", type=_Option("height"), help="Pixels of a picture.")
@click.option("--steps", type=_Option("steps"), help="Steps of denoising of a picture.")
@click.option("--seed", type=_Option("seed"), help="Same seed, same picture or text.")
@click.option("--negative", type=_Option("negative_prompt"), help="What is not to be seen in a picture.")
@click.option("--guidance", type=_Option("guidance"), help="How closely a picture follows the prompt.")
@click.option("--scheduler", type=_Option("scheduler"), help="How the steps of a picture follow each other: DPM++ 2M Karras …")
@click.option("--strength", type=_Option("strength"), help="How far to leave the picture that it starts from, 0 to 1.")
@click.option("--preview", type=_Option("preview"), help="Show a picture after every so many steps, where the terminal can.")
@click.option("-n", "n", type=_Option("n"), help="How many pictures.")
@click.option("--output", type=click.Path(path_type=Path), help="Where a picture is saved: a file, or a directory.")
def run(model: str, prompt: tuple[str, ...], insecure: bool, **settings: Any) -> None:
    """Answer PROMPT, or open a conversation when there is none.

    A server is started when none runs, the model is downloaded when it is missing. Text that is piped in comes before
    PROMPT. Paths of pictures in the prompt are attached for models that see; models that draw save a picture here.
    """
    from serow.cli.server import connect

    text = " ".join((*_piped(), *prompt))
    with connect(start=True) as client:
        session = _open(client, model, insecure, settings)
        advise()
        if text or not (sys.stdin.isatty() and sys.stdout.isatty()):
            if not session.ask(client, text):
                raise click.exceptions.Exit(1)
        else:
            session.load(client)
            _converse(client, session)


def _converse(client: "Client", session: "Session") -> None:
    from serow.cli import state
    from serow.cli.prompt import Prompt
    from serow.cli.repl import Repl
    from serow.cli.repl_help import COMPLETIONS

    is_kept = not (os.environ.get("SEROW_NOHISTORY") or os.environ.get("OLLAMA_NOHISTORY"))
    prompt = Prompt(state.directory() / "history", COMPLETIONS)
    prompt.keep_history(is_on=is_kept)
    Repl(client, session, prompt).run()


def _piped() -> list[str]:
    if sys.stdin.isatty():
        return []
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError:
        raise SerowError("what is piped in is not text") from None
    return [text] if text else []


def _open(client: "Client", model: str, insecure: bool, settings: dict[str, Any]) -> "Session":
    """A session with a model, which is pulled when the server does not have it."""
    import ollama

    from serow.cli import picture
    from serow.cli.drawing import SETTINGS
    from serow.cli.session import Session

    try:
        info = client.show_all(model)
    except ollama.ResponseError as error:
        if error.status_code != 404:
            raise
        progress.show(client.pull(model, insecure=insecure, stream=True))
        info = client.show_all(model)
    capabilities = frozenset(info.get("capabilities") or ())
    if settings["output"] is not None and "image" not in capabilities:
        raise click.UsageError(f"--output is for models that draw, which {model} does not")
    if settings["output"] is not None:
        picture.check(settings["output"])
    return Session(
        model,
        capabilities=capabilities,
        options={option: settings[name] for name, option in SETTINGS.items() if settings[name] is not None},
        output=settings["output"],
        format=settings["format"],
        think=settings["think"],
        hides_thinking=settings["hidethinking"],
        keep_alive=settings["keepalive"],
        wraps_words=not settings["nowordwrap"],
        is_verbose=settings["verbose"],
    )
