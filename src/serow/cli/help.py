"""How --help is laid out: as wide as the terminal, names above their texts where it is narrow."""

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

Rows = Sequence[tuple[str, str]]

_ROW = re.compile(r" {2,}(\S.*>(?: \.\.\.)?|\S.*?\S(?= {2})) +(\S[^<]*)")  # of a help text: the name, what it is
_WIDEST, _NARROWEST, _NARROW = 98, 24, 60  # columns
_NARROW_NAMES = 12  # columns of names beside their texts in a narrow terminal


def width() -> int:
    """Columns that a help text may fill."""
    return max(_NARROWEST, min(shutil.get_terminal_size().columns - 2, _WIDEST))


class Formatter(click.HelpFormatter):
    """click's own, which never goes below fifty columns, and leaves texts ten of them."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Names and their texts in two columns."""
        super().write_dl(rows, col_max if self.width > _NARROW else _NARROW_NAMES, col_spacing)


class _Sections:
    """What has parts of its own below the options: names and their texts by the part's title."""

    def __init__(self, *args: Any, sections: Mapping[str, Rows] | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._sections = sections or {}

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The parts, each as a table."""
        for title, rows in self._sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


class Command(_Sections, click.Command):
    """A command with parts of its own in its help."""


class Group(_Sections, click.Group):
    """A group that lists its commands in the order of their declaration, with their whole first sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names as --help lists them."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands and what each is for, however narrow the terminal is."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands[name].get_short_help_str(limit=200)) for name in self.list_commands(ctx)])


def laid_out(text: str, columns: int) -> str:
    """A help text of the conversation, whose lines are `  name   text`, for a terminal of so many columns; 0 is any."""
    if not columns or all(len(line) < columns for line in text.splitlines()):
        return text
    formatter, rows = Formatter(width=columns - 1), list[tuple[str, str]]()
    for line in (*text.splitlines(), ""):
        if found := _ROW.fullmatch(line):
            rows.append((found[1], found[2]))
            continue
        if rows:
            formatter.indent()
            formatter.write_dl(rows)
            formatter.dedent()
            rows = []
        formatter.write(f"{line}\n")
    return formatter.getvalue().removesuffix("\n")
