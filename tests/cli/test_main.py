"""The command line as a program: help, mistakes, exit statuses, a server that is not there."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from serow import __version__
from serow.__main__ import main as start
from serow.cli.main import cli, main
from serow.settings import VARIABLES

NOWHERE = "127.0.0.1:9"


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    with pytest.raises(SystemExit) as caught:
        main(args)
    out, err = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


def test_help_lists_every_command_in_under_four_tenths_of_a_second() -> None:
    before = os.times()
    argv = [sys.executable, "-m", "serow", "--help"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout
    after = os.times()
    assert all(f"\n  {name} " in text for name in cli.commands)
    # its own work: on a busy machine the clock on the wall tells of others
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.4


def test_help_imports_nothing_heavy() -> None:
    script = "import sys, serow.cli.main; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=20
    ).stdout.split()
    assert not {"ollama", "httpx", "aiohttp", "rich", "prompt_toolkit", "llguidance", "PIL", "uvicorn"} & set(loaded)


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert out.startswith(f"Usage: serow {command} ")


def test_the_help_of_serve_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "serve", "--help")
    assert all(f"  SEROW_{variable.name} " in out for variable in VARIABLES)


def test_the_help_of_run_shows_where_the_level_of_thinking_stands(capsys: pytest.CaptureFixture[str]) -> None:
    assert "  --think[=LEVEL] " in run(capsys, "run", "--help")[1]


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"serow version is {__version__}\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    code, out, _ = run(capsys, "completion", shell)
    assert code == 0
    assert "_SEROW_COMPLETE" in out


@pytest.mark.parametrize(
    "args, error",
    [
        (("nope",), "error: no such command 'nope'"),
        (("run",), "error: missing argument 'MODEL'"),
        (
            ("run", "m", "--think=maybe", "x"),
            "error: invalid value for '--think': must be true, false, low, medium, high or max",
        ),
        (("run", "m", "--format", "/nope/schema", "x"), "error: invalid value for '--format': can't read /nope/schema"),
        (("run", "m", "--format", "{", "x"), "error: invalid value for '--format': is not JSON"),
        (("run", "m", "--format", os.devnull, "x"), "error: invalid value for '--format': is not JSON"),
        (("run", "m", "--think", "false", "x"), "error: --think takes its level behind an equals sign: --think=false"),
        (("run", "m", "--think", "high"), "error: --think takes its level behind an equals sign: --think=high"),
        (
            ("show", "m", "--license", "--system"),
            "error: only one of --license, --modelfile, --parameters, --system, --template can be given",
        ),
        (("run", "", "x"), "error: invalid value for 'MODEL': must not be empty"),
        (("rm", "m", ""), "error: invalid value for 'MODEL...': must not be empty"),
        (("completion",), "error: missing argument 'SHELL'"),
        (("run", "m", "--keepalive", "5", "x"), "error: invalid value for '--keepalive': time: missing unit in duration \"5\""),
    ],
)
def test_a_wrong_command_line_is_one_line_with_a_hint(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], error: str
) -> None:
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert err.startswith(error)
    assert err.splitlines()[-1].startswith("hint: serow")


def test_a_format_that_is_json_and_no_schema_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    code, _, err = run(capsys, "run", "m", "--format", str(tmp_path / "list.json"), "x")
    assert (code, err.splitlines()[0]) == (2, "error: invalid value for '--format': is not a JSON object")


@pytest.mark.parametrize("args", [(), ("key",)])
def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str], args: tuple[str, ...]) -> None:
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: serow ")


def test_ctrl_c_while_the_program_is_still_being_imported_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "serow.cli.main", Interrupted("serow.cli.main"))
    with pytest.raises(SystemExit) as caught:
        start()
    assert caught.value.code == 130


@pytest.mark.parametrize("args", [("list",), ("ls",), ("ps",), ("show", "m"), ("stop", "m"), ("cp", "a", "b"), ("rm", "m")])
def test_a_server_that_is_not_there_is_named_with_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SEROW_HOST", NOWHERE)
    assert run(capsys, *args) == (1, "", f"error: no server answers at http://{NOWHERE}\nhint: start it with: serow serve\n")


def test_a_setting_that_does_not_fit_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_HOST", "127.0.0.1:x")
    code, _, err = run(capsys, "list")
    assert code == 1
    assert err.startswith("error: SEROW_HOST=")


def test_a_fault_of_ours_is_told_without_commanding_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall(*_: object) -> None:
        raise ArithmeticError("\x1b]52;c;RVZJTA==\x07")

    monkeypatch.setattr("serow.cli.state.shown", fall)
    monkeypatch.setattr("serow.cli.background.running", fall)
    code, out, err = run(capsys, "server", "list")
    assert (code, out) == (1, "")
    assert "ArithmeticError: \\x1b]52;c;RVZJTA==\\x07\n" in err
    assert err.splitlines()[-2:] == ["error: this is a fault of serow", "hint: please report it with the lines above"]
