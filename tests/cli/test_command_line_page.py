"""docs/command-line.md is what the commands themselves say."""

import re

from .command_line_page import PAGE, commands, written


def test_the_page_has_every_command_once() -> None:
    assert sorted(re.findall(r"^<!-- (serow.+?) -->$", PAGE.read_text(), re.M)) == sorted(path for path, _ in commands())


def test_its_tables_are_those_of_help() -> None:
    page = PAGE.read_text()
    assert page == written(page), "python -m tests.cli.command_line_page writes them anew"
