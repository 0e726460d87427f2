"""Help texts and tables in terminals of every width."""

import click
import pytest
from rich.console import Console

from serow.cli import bars, help, repl_help, table
from serow.cli.main import cli, main
from serow.cli.wrap import fold


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command and group, as the words that call it."""
    found = [path]
    for name, command in group.commands.items():
        found += commands(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_help_fits_a_terminal_of_forty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(SystemExit):
        main([*path, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 40] == []
    assert not any(line.endswith("...") and not line.endswith(("]...", "MODEL...")) for line in lines)


@pytest.mark.parametrize("text", [repl_help.COMMANDS, repl_help.SET, repl_help.SHOW, repl_help.PARAMETER, repl_help.SHORTCUTS])
def test_help_of_the_conversation_fits_a_terminal_of_forty_columns(text: str) -> None:
    lines = help.laid_out(text, 40).splitlines()
    assert [line for line in lines if len(line) >= 40] == []
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert help.laid_out(text, 0) == text == help.laid_out(text, 100)


ROWS = [("NAME", "ID", "SIZE", "MODIFIED"), ("zoo-think:latest", "bbf21ca87612", "2.2 MB", "About a minute ago")]


@pytest.mark.parametrize(
    "columns, header",
    [
        (0, "NAME                ID              SIZE      MODIFIED"),
        (80, "NAME                ID              SIZE      MODIFIED"),
        (60, "NAME              ID            SIZE    MODIFIED"),
        (46, "NAME              SIZE    MODIFIED"),
        (30, "NAME              SIZE"),
        (20, "NAME          SIZE"),
    ],
)
def test_a_table_shrinks_with_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, header: str) -> None:
    monkeypatch.setattr("serow.cli.terminal.width", lambda: columns)
    lines = table.columns(ROWS, spare=(1, 3)).splitlines()
    assert lines[0] == header
    assert not columns or max(map(len, lines)) <= columns


def test_a_cell_that_is_too_long_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serow.cli.terminal.width", lambda: 24)
    assert table.columns([("key", "a value of several words")], indent="  ") == "  key  a value of\n       several words"


def test_a_cell_is_one_line_and_wide_letters_take_two_columns() -> None:
    assert table.columns([("a\nb", "x"), ("日本", "y")]) == "a b     x\n日本    y"


def test_a_word_that_is_too_long_is_broken() -> None:
    assert fold("registry.example/name", 10) == ["registry.e", "xample/nam", "e"]
    assert fold("日本語です", 4) == ["日本", "語で", "す"]


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("is_bytes", [True, False])
def test_a_bar_is_one_line_and_cuts_no_number(monkeypatch: pytest.MonkeyPatch, columns: int, is_bytes: bool) -> None:
    monkeypatch.setattr("serow.cli.bars.width", lambda **_: columns)
    shown = bars.progress(is_bytes=is_bytes)
    total, amount = (2_000_000_000, "0.9/2.0 GB") if is_bytes else (200, " 90/200")
    shown.add_task("hashing a-very-long-name-of-a-model-Q4_K_M.gguf", total=total, completed=total * 9 // 20)
    [line] = Console(width=columns).render_lines(next(iter(shown.get_renderables())), pad=False)
    text = "".join(segment.text for segment in line)
    assert amount in text
    assert len(text) <= columns
