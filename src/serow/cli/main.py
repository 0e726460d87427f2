"""The program `serow`: its commands, and how failures are shown: a line or two on stderr, never a traceback."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from serow import __version__
from serow.cli import create, devices, engine, help, key, models, run, serve, servers, show, upkeep
from serow.cli.terminal import OutputClosed, abandon, data, say, tell
from serow.errors import SerowError

_ALIASES = {"ls": "list", "start": "serve"}
_COMPLETING = "_SEROW_COMPLETE"  # what the scripts of `serow completion` set
_INTERRUPTED, _CLOSED = 130, 141  # exit statuses after Ctrl-C and of a closed pipe, as shells have them


_EXAMPLES = (
    ("serow run smollm2:135m", "chat with a small model"),
    ('serow run smollm2:135m "Why?"', "one answer, for scripts and pipes"),
    ('eval "$(serow completion bash)"', "complete commands in this shell"),
)


_RC_FILES = (
    ('eval "$(serow completion bash)"', "in ~/.bashrc"),
    ('eval "$(serow completion zsh)"', "in ~/.zshrc"),
    ("serow completion fish | source", "in ~/.config/fish/config.fish"),
)


class Commands(help.Group):
    """The commands, some with a second name."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name or its second name."""
        return super().get_command(ctx, _ALIASES.get(cmd_name, cmd_name))


def _fail(message: str, hint: str = "", status: int = 1) -> NoReturn:
    tell("error", message)
    if hint:
        tell("hint", hint)
    sys.exit(status)


@click.group(cls=Commands, sections={"Examples": _EXAMPLES}, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-v", "--version", message="serow version is %(version)s")
def cli() -> None:
    """Run language, vision and image models on this machine, behind the APIs of Ollama, OpenAI and Anthropic.

    Every command but serve, server, key and engine speaks to the server at SEROW_HOST (or OLLAMA_HOST), by default
    127.0.0.1:11434.
    """


@click.command(cls=help.Command, sections={"Where it goes": _RC_FILES})
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: commands, models, keys and engines are completed."""
    from serow.cli.completion import script

    data(script(cli, shell))


for _command in (
    serve.serve,
    servers.server,
    run.run,
    models.pull,
    models.push,
    models.list_models,
    models.ps,
    devices.devices,
    show.show,
    models.stop,
    models.copy,
    models.remove,
    upkeep.prune,
    upkeep.verify,
    create.create,
    key.key,
    engine.engine,
    completion,
):
    cli.add_command(_command)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the `serow` script: exits with 0, 1 after a failure, 2 for a wrong command line, 130 after Ctrl-C.

    Where its output goes to a program that has ended, `serow list | head -1`, it ends without a word, with 141.
    """
    try:
        _run(args)
    except (OutputClosed, BrokenPipeError):
        abandon()
        sys.exit(_CLOSED)
    except Exception:  # noqa: BLE001 (the top: a fault of ours, and what it quotes may come from a server)
        say(traceback.format_exc().rstrip(), err=True)
        _fail("this is a fault of serow", "please report it with the lines above")


def _run(args: Sequence[str] | None) -> NoReturn:
    click.Context.formatter_class = help.Formatter
    if _COMPLETING in os.environ:
        from serow.cli.completion import register

        register()
    try:
        status = cli.main(args, prog_name="serow", standalone_mode=False, terminal_width=help.width())
    except SerowError as error:
        _fail(str(error), error.hint)
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "serow"
        message = error.format_message().rstrip(".")
        _fail(f"{message[:1].lower()}{message[1:]}", f"{command} --help", 2)
    except click.Abort:
        sys.exit(_INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)
