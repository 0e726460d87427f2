"""The tables of docs/command-line.md, made of the commands: `python -m tests.cli.command_line_page` rewrites them."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from serow.cli.main import cli

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


def commands(group: click.Group = cli, path: str = "serow") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def table(path: str, command: click.Command) -> str:
    """How a command is called, and its options with what --help says of each."""
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    records = [each.get_help_record(context) or ("", "") for each in options]
    rows = [f"| `{name}` | {text} |".replace("JSON|", "JSON\\|") for name, text in records]
    head = f"```\n{path} {usage}\n```"
    return "\n".join([head, "", "| option | |", "|---|---|", *rows]) if rows else head


def written(page: str) -> str:
    """The page with every table made anew."""
    found = dict(commands())
    return re.sub(
        r"<!-- (serow[^\n]*?) -->\n(?:.*?\n)??<!-- -->",
        lambda match: f"<!-- {match[1]} -->\n{table(match[1], found[match[1]])}\n<!-- -->" if match[1] in found else match[0],
        page,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
