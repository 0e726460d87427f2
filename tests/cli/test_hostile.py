"""Nothing that a model or a server says commands the user's terminal."""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.cli.main import cli
from serow.cli.terminal import escaped

from .fake_server import answering
from .terminal import Terminal

SENT = "\x1b[?2004l"  # the prompt gives the terminal back

CLI = Path(__file__).parents[2] / "src" / "serow" / "cli"
ATTACKS = {
    "the clipboard is written": "\x1b]52;c;RVZJTA==\x07",
    "the title is set": "\x1b]0;EVIL\x1b\\",
    "the screen is cleared": "\x1b[2J\x1b[H",
    "the keyboard answers": "\x1b[6n\x1bP$q\x1b\\",
    "C1 controls": "\x9b2J\x9d52;c;RVZJTA==\x9c\x90q\x9c",
    "the line is overwritten": "true\rEVIL\b\b",
    "letters change their order": "\u202eLIVE\u202c\u2066x\u2069\u2067\u2068\u202a\u202b\u202d",
    "half a character": "\ud800",
    "a bell, and the rest": "\x07\x00\x0e\x0f\x7f\x0b\x0c\x85\u2028\u2029",
}
EVIL = "".join(ATTACKS.values())
DANGEROUS = set(EVIL) - set("\\[]RVZJTA=LIEtruex0123456789;c$qPHnJ")


def hostile() -> dict[str, Any]:
    """A server whose every text attacks the terminal."""
    show = {
        "license": EVIL,
        "modelfile": f"FROM {EVIL}",
        "parameters": f"stop {EVIL}",
        "template": EVIL,
        "system": f"{EVIL}\nsecond",
        "details": {"family": EVIL, "parameter_size": EVIL, "quantization_level": EVIL},
        "model_info": {"general.architecture": EVIL, EVIL: EVIL, "list": [EVIL, 1]},
        "projector_info": {"general.architecture": EVIL},
        "tensors": [{"name": EVIL, "type": EVIL, "shape": [EVIL]}],
        "capabilities": [EVIL, "completion", "thinking"],
    }
    listed = {"name": EVIL, "model": EVIL, "digest": EVIL, "size": 1, "size_vram": 0, "context_length": 1}
    moments = {"modified_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T00:00:00Z"}
    answer: list[dict[str, Any]] = [
        {"model": EVIL, "created_at": EVIL, "response": "", "thinking": f"\x1b{EVIL}", "done": False},
        *({"model": EVIL, "created_at": EVIL, "response": character, "done": False} for character in EVIL),
        {"model": EVIL, "created_at": EVIL, "response": "", "done": True, "done_reason": EVIL, "warnings": [EVIL]},
    ]
    progress = [{"status": EVIL, "completed": 1, "total": 2, "digest": EVIL}, {"status": f"[link={EVIL}]x"}, {"error": EVIL}]
    error = (404, "application/json", json.dumps({"error": f"model {EVIL} not found"}))
    return {
        "/api/version": {"version": EVIL},
        "/api/tags": {"models": [listed | moments]},
        "/api/ps": {"models": [listed | moments]},
        "/api/show": show,
        "/api/generate": answer,
        "/api/chat": [record | {"message": {"role": "assistant", "content": record.get("response", "")}} for record in answer],
        "/api/pull": progress,
        "/api/push": progress,
        "/api/create": progress[:2],
        "/api/copy": error,
        "/api/delete": error,
        "/api/verify": progress,
        "/api/prune": {"found": [{"kind": EVIL, "what": EVIL, "size": 1, "is_removed": True}]},
        "/api/partials": {"partials": [{"name": EVIL, "digest": EVIL, "size": 2, "completed": 1, "age": 1.0}]},
        "/api/blobs": error,
    }


@pytest.fixture(scope="module")
def hostile_server() -> Iterator[str]:
    """Its address."""
    with answering(hostile()) as address:
        yield address


COMMANDS = (
    ("list",),
    ("ps",),
    ("show", "m"),
    ("show", "m", "-v"),
    *(("show", "m", f"--{part}") for part in ("license", "modelfile", "parameters", "template", "system")),
    ("run", "m", "Hi"),
    ("run", "m", "--verbose", "--nowordwrap", "Hi"),
    ("pull", "m"),
    ("push", "m"),
    ("verify",),
    ("prune",),
    ("list", "--partial"),
    ("list", "--json"),
    ("create", "m"),
    ("cp", "a", "b"),
    ("rm", "a"),
    ("stop", "a"),
    ("devices",),
    ("devices", "--json"),
)
LOCAL = {"serve", "key", "engine", "completion", "server"}  # speak to no server of others


def test_every_command_that_hears_a_server_is_tried() -> None:
    assert set(cli.commands) - LOCAL <= {name for name, *_ in COMMANDS}


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_hostile_server_does_not_command_the_terminal(
    hostile_server: str, home: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SEROW_HOST", hostile_server)
    (home / "Modelfile").write_text("FROM m\n")
    with Terminal([sys.executable, "-m", "serow", *args]) as terminal:
        said = terminal.read_all()
    assert "\\x1b" in said
    for what, attack in ATTACKS.items():
        assert attack not in said, what
    assert not DANGEROUS & set(said) - set("\x1b\r\n")
    assert not any(sequence in said for sequence in ("\x1b]", "\x1bP", "\x1b[2J", "\x1b[H", "\x1b[6n"))


def test_a_conversation_with_a_hostile_server_does_not_command_the_terminal(
    hostile_server: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEROW_HOST", hostile_server)
    with Terminal([sys.executable, "-m", "serow", "run", "m"]) as terminal:
        terminal.expect(">>> ")
        for line in ("Hi", "/show info", "/show system", "/list", "/save x", "/load y"):
            terminal.send(f"{line}\r")
            terminal.expect(SENT)
            said = terminal.expect(">>> ")
            assert not any(attack in said for attack in ATTACKS.values()), line
        terminal.send("\x04")
        assert terminal.wait() == 0


@given(st.text())
def test_a_written_out_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = escaped(text)
    assert not DANGEROUS & set(shown)
    assert shown == text or DANGEROUS | {"\r"} & set(text)
    shown.encode()


@pytest.mark.parametrize("text", ["plain\ttext\n", "naïve café", "日本語", "👩\u200d👩\u200d👧", "עברית\u200f", "a\u0301"])
def test_text_of_every_script_stays_as_it_is(text: str) -> None:
    assert escaped(text) == text


def test_lines_that_end_as_on_windows_are_lines() -> None:
    assert escaped("a\r\nb\r") == "a\nb\\r"


OTHER_WAYS_OUT = {"print", "echo", "secho", "echo_via_pager", "print_json"}


@pytest.mark.parametrize("path", sorted(CLI.rglob("*.py")), ids=lambda path: path.stem)
def test_a_module_prints_only_through_the_one_way_out(path: Path) -> None:
    if path.name == "terminal.py":
        return
    called = {
        getattr(node.func, "attr", getattr(node.func, "id", ""))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }
    assert not called & OTHER_WAYS_OUT
    assert "stdout.write" not in path.read_text()
    assert "stderr.write" not in path.read_text()
