"""Directories of sockets: who lives keeps its own, what the dead left is swept, what is anybody else's is left alone."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serow.engines.socket_directory import SocketDirectory, sweep
from serow.system import owned

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither sockets in files nor locks on directories"),
    pytest.mark.req("LIFE-06"),
]
NAME = "engine-0123456789abcdef"


@pytest.fixture(autouse=True, params=["runtime directory", "temporary files"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where the directories lie, not made yet."""
    tmp_path.chmod(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if request.param == "temporary files":
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        yield tmp_path / f"serow-{os.getuid()}"
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        yield tmp_path / "serow"


def left_over(place: Path) -> Path:
    """What a server leaves that is killed."""
    script = "import os; from serow.engines.socket_directory import *; print(SocketDirectory().path, flush=True); os.abort()"
    env = {**os.environ, "TMPDIR": str(place.parent)}
    path = Path(subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, env=env, text=True).stdout.strip())
    assert path.parent == place and owned.is_ours(path)
    (path / "engine.sock").touch()
    return path


def test_what_a_dead_server_left_is_removed(place: Path) -> None:
    path = left_over(place)
    sweep()
    assert not path.exists()


def test_a_living_server_keeps_its_own() -> None:
    directory = SocketDirectory()
    sweep()
    assert directory.path.is_dir()
    directory.remove()
    directory.remove()
    assert not directory.path.exists()


def unmarked(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("mine")


def marked_by_another_program(path: Path) -> None:
    unmarked(path)
    (path / owned.MARK).write_text("mine too")


def marked_by_a_link(path: Path) -> None:
    unmarked(path)
    owned.mark(path.parent)
    (path / owned.MARK).symlink_to(path.parent / owned.MARK)


def link_to_a_directory_of_ours(path: Path) -> None:
    target = path.with_name("elsewhere")
    unmarked(target)
    owned.mark(target)
    path.symlink_to(target)


def file_of_the_name(path: Path) -> None:
    path.write_text("mine")


STRANGERS = [unmarked, marked_by_another_program, marked_by_a_link, link_to_a_directory_of_ours, file_of_the_name]


@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_only_has_such_a_name_is_left_alone(place: Path, stranger: Callable[[Path], None]) -> None:
    place.mkdir(mode=0o700)
    stranger(place / NAME)
    before = contents(place.parent)
    sweep()
    assert contents(place.parent) == before


@pytest.mark.parametrize("name", ["serow-thesis", "serow-0123456789abcdef", "engine-0123456789abcdef", "serow.old"])
def test_directories_beside_ours_are_left_alone(place: Path, name: str) -> None:
    unmarked(place.parent / name)
    owned.mark(place.parent / name)
    sweep()
    assert (place.parent / name / "thesis.tex").exists()


def test_a_file_that_somebody_put_into_a_left_over_keeps_it(place: Path) -> None:
    path = left_over(place)
    (path / "thesis.tex").write_text("mine")
    sweep()
    assert (path / "thesis.tex").read_text() == "mine"
    assert not (path / "engine.sock").exists()


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can give a directory away")
def test_other_users_directories_are_neither_swept_nor_used(place: Path) -> None:
    path = left_over(place)
    os.chown(path, 12345, 12345)
    sweep()
    assert path.is_dir()
    os.chown(place, 12345, 12345)
    own = SocketDirectory()
    assert own.path.parent != place and own.path.stat().st_mode & 0o777 == 0o700
    own.remove()


@pytest.mark.parametrize("in_the_way", [file_of_the_name, link_to_a_directory_of_ours, lambda path: path.mkdir(0o777)])
def test_what_is_in_the_way_is_not_used(place: Path, in_the_way: Callable[[Path], None]) -> None:
    in_the_way(place)
    if place.is_dir() and not place.is_symlink():
        place.chmod(0o777)
    before = contents(place.parent)
    directory = SocketDirectory()
    assert directory.path.parent == place.parent
    directory.remove()
    shutil.rmtree(directory.path, ignore_errors=True)
    assert contents(place.parent) == before


def contents(directory: Path) -> list[str]:
    """All that is below a directory."""
    return sorted(str(path) for path in directory.rglob("*"))
