"""Completion, in the shells that are here, by the scripts as they are pasted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serow.keys import KeyFile, Scope

_TRY = """
eval "$(serow completion bash)"
COMP_LINE=$1 COMP_POINT=${#1}
_serow_completion
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def shell(server: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search path on which `serow` is this package."""
    program = home / "bin" / "serow"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m serow "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SEROW_HOST", server)
    monkeypatch.setenv("HOME", str(home))


def run(name: str, *args: str) -> str:
    """What a shell prints; skips where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"there is no {name}")
    done = subprocess.run([path, *args], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize(
    "line, words",
    [
        ("serow sho", ["show"]),
        ("serow show zoo-t", ["zoo-think"]),
        ("serow run smollm2:13", ["135m"]),
        ("serow show zoo-think:l", ["latest"]),
        ("serow pull qwen2.5-c", ["qwen2.5-coder:0.5b"]),
        ("serow engine build ", ["llama.cpp", "ik"]),
        ("serow engine use a", ["auto"]),
        ("serow run zoo-think --format j", ["json"]),
        ("serow list zoo-v", ["zoo-vision"]),
    ],
)
def test_bash_completes_names_with_colons_too(line: str, words: list[str]) -> None:
    assert run("bash", "-c", _TRY, "bash", line).split() == words


@pytest.mark.usefixtures("shell")
def test_bash_completes_the_names_of_keys(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_KEY_FILE", str(home / "keys.json"))
    KeyFile(home / "keys.json").create("laptop", (Scope.INFER,))
    assert run("bash", "-c", _TRY, "bash", "serow key revoke ").split() == ["laptop"]


@pytest.mark.usefixtures("shell")
def test_without_a_server_there_is_nothing_to_complete_and_nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_HOST", "127.0.0.1:9")
    assert run("bash", "-c", _TRY, "bash", "serow show ").split() == []


@pytest.mark.usefixtures("shell")
def test_zsh_takes_the_script_where_its_completion_is_not_set_up() -> None:
    assert run("zsh", "-fc", 'eval "$(serow completion zsh)"; print $_comps[serow]') == "_serow_completion\n"


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize("line, words", [("serow show zoo-t", ["zoo-think"]), ("serow run smollm2:13", ["smollm2:135m"])])
def test_fish_completes_names(line: str, words: list[str]) -> None:
    assert run("fish", "-c", f"serow completion fish | source; complete -C '{line}'").split() == words
