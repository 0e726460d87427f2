"""Directories of sockets: who lives keeps its own, what the dead left is swept."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serow.runner.socket_directory import SocketDirectory, sweep

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither sockets in files nor locks on directories"),
    pytest.mark.req("LIFE-06"),
]


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A directory for temporary files of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path


def left_over(directory: Path) -> Path:
    """What a server leaves that is killed."""
    script = "import os; from serow.runner.socket_directory import *; print(SocketDirectory().path, flush=True); os.abort()"
    env = {**os.environ, "TMPDIR": str(directory)}
    path = Path(subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, env=env, text=True).stdout.strip())
    assert path.is_dir()
    return path


def test_what_a_dead_server_left_is_removed(temporary: Path) -> None:
    path = left_over(temporary)
    (path / "engine.sock").touch()
    sweep()
    assert not path.exists()


def test_a_living_server_keeps_its_own() -> None:
    directory = SocketDirectory()
    sweep()
    assert directory.path.is_dir()
    directory.remove()
    directory.remove()
    assert not directory.path.exists()


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can give a directory away")
def test_other_users_directories_are_left_alone(temporary: Path) -> None:
    (temporary / "serow-of-another").mkdir()
    os.chown(temporary / "serow-of-another", 12345, 12345)
    sweep()
    assert (temporary / "serow-of-another").is_dir()


def test_files_and_links_that_only_have_such_a_name_are_left_alone(temporary: Path) -> None:
    (temporary / "mine").mkdir()
    (temporary / "serow-link").symlink_to(temporary / "mine")
    (temporary / "serow-notes").write_text("mine")
    sweep()
    assert (temporary / "mine").is_dir() and (temporary / "serow-notes").is_file()
