"""Completion in shells: the scripts that `serow completion` prints, and the names that only a server or a file knows.

click's scripts lose what stands behind a colon in bash and need a configured zsh; names of models hold colons.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from serow.errors import SerowError

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_PATIENCE = 1.0  # seconds that a server may take to name its models
_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}" type value
    local word="${line##*[[:space:]]}"
    local before=""
    [[ $COMP_WORDBREAKS == *:* && $word == *:* ]] && before="${word%%:*}:"
    [[ $word == *=* && $before == "" ]] && before="${word%%=*}="
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            plain) COMPREPLY+=("${value#"$before"}") ;;
        esac
    done < <(COMP_WORDS="$line" %(complete_var)s=bash_complete %(prog_name)s)
}
complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null || complete -F %(complete_func)s %(prog_name)s
"""
_ZSH_FIRST = """\
if (( ! $+functions[compdef] )); then
    autoload -Uz compinit && compinit -i
fi
"""


class _Bash(BashComplete):
    """Reads the line as it was typed: bash itself splits it at colons and equals signs."""

    source_template = _BASH

    def source(self) -> str:
        """The script; bash 3.2, as macOS has it, can read it too."""
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        """The whole words, and the one that is being typed."""
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)
        return (words[1:], "") if line[-1:].isspace() else (words[1:-1], words[-1])


class _Zsh(ZshComplete):
    source_template = _ZSH_FIRST + ZshComplete.source_template


_CLASSES: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": FishComplete}


def script(cli: click.Command, shell: str) -> str:
    """What a shell evaluates to complete our commands."""
    return _CLASSES[shell](cli, {}, "serow", "_SEROW_COMPLETE").source()


def register() -> None:
    """Let click answer the scripts above."""
    for name, each in _CLASSES.items():
        add_completion_class(each, name)


def completer(names: Callable[[], Iterable[str]]) -> Completer:
    """What completes an argument by names; whatever keeps them from being known, the shell says nothing of it."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found: list[str] = []
        with suppress(SerowError):
            found = [name if ":" in incomplete else name.removesuffix(":latest") for name in names()]
        return [CompletionItem(name) for name in found if name.lower().startswith(incomplete.lower())]

    return complete


def model_names() -> list[str]:
    """The models of the server, if one runs."""
    import httpx
    import ollama

    from serow.cli.server import client_of, url

    with (
        client_of(url(), patience=_PATIENCE) as client,
        suppress(ConnectionError, ValueError, httpx.HTTPError, ollama.ResponseError),
    ):
        return [model.model or "" for model in client.list().models]
    return []


def pulled_names() -> list[str]:
    """The models of the server, and those that the package index has."""
    from serow.registries.package_index.sources import SOURCES

    return list(dict.fromkeys([*model_names(), *(source.name for source in SOURCES)]))


def key_names() -> list[str]:
    """The keys of this machine's server."""
    from serow import settings
    from serow.keys import KeyFile

    return [key.name for key in KeyFile(settings.load().key_file).read()]


def engine_names() -> list[str]:
    """The engines that can be built."""
    from serow.engines.kinds import KINDS, WHEEL

    return [name for name in KINDS if name != WHEEL.name]


def server_addresses() -> list[str]:
    """The servers in the background."""
    from serow.cli import background

    return [each.record.address for each in background.running()]
