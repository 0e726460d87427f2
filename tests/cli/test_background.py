"""Servers in the background: started, listed, ended, and none that is not ours."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil
import pytest

from serow.cli import background
from serow.cli.background import Record, running
from serow.server.log import configure
from serow.settings import Settings

from .conftest import Serow

QUESTION = "What is 37 + 85?"
DEADLINE = 30.0  # seconds


@pytest.fixture
def free(models: Path, home: Path, monkeypatch: pytest.MonkeyPatch, serow: Serow) -> Iterator[str]:
    """The address where commands start a server; all that they have started are ended."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("SEROW_HOST", host)
    monkeypatch.setenv("SEROW_MODELS", str(models))
    yield f"http://{host}"
    for each in running():
        background.end(each)
        reaped(each.record.pid)


def reaped(pid: int) -> None:
    """In a test the server is our child, and would stay as a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def test_a_server_that_is_started_is_said_listed_and_ended(serow: Serow, free: str, home: Path) -> None:
    _, _, err = serow("run", "zoo-think", "--think=false", QUESTION)
    log = home / "state" / "serow" / "servers" / f"{free.rpartition(':')[2]}.log"
    [server] = running()
    pid = server.record.pid
    assert err.splitlines() == [
        f"note: started a server in the background: {free}, process {pid}, log {log}",
        "hint: it ends after 30 minutes without a model; end it now with: serow server stop",
    ]
    assert log.is_file()
    assert log.parent.stat().st_mode & 0o777 == 0o700
    header, row = serow("server", "list").out.splitlines()
    assert header.split() == ["ADDRESS", "PROCESS", "STARTED", "LOG"]
    assert row.split()[:2] == [free, str(pid)]
    assert serow("run", "zoo-think", "--think=false", QUESTION).err == ""
    assert serow("server", "stop") == (0, f"ended {free}, process {pid}\n", "")
    assert serow("server", "list").out.split() == header.split()


def test_a_server_that_nobody_uses_ends_by_itself(serow: Serow, free: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_IDLE_TIMEOUT", "2")
    serow("run", "zoo-think", "--think=false", "--keepalive", "3s", QUESTION)
    [server] = running()
    began = time.monotonic()
    assert os.waitpid(server.record.pid, 0)[1] == 0
    assert 3 < time.monotonic() - began < DEADLINE
    assert "it ends\n" in server.log.read_text()
    assert running() == []


def test_two_commands_at_once_start_one_server(free: str) -> None:
    def run(_: int) -> str:
        argv = [sys.executable, "-m", "serow", "run", "zoo-think", "--think=false", QUESTION]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stderr

    with ThreadPoolExecutor(3) as pool:
        said = list(pool.map(run, range(3)))
    assert sum("started a server" in text for text in said) == 1


def test_stop_ends_no_server_that_was_started_otherwise(serow: Serow) -> None:
    code, _, err = serow("server", "stop")
    assert code == 1
    assert err.startswith("error: no server in the background listens on ")
    assert serow("ps").code == 0


def test_a_process_that_got_the_number_of_a_server_is_left_alone(serow: Serow, home: Path) -> None:
    directory = home / "state" / "serow" / "servers"
    directory.mkdir(parents=True)
    stranger = Record("http://127.0.0.1:1", os.getpid(), psutil.Process().create_time() - 100)
    (directory / "1.json").write_bytes(msgspec.json.encode(stranger))
    (directory / "notes.json").write_text("mine")
    assert serow("server", "stop", "--all") == (0, "", "")
    assert [path.name for path in directory.glob("*.json")] == ["notes.json"]


def test_a_log_in_a_file_is_kept_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    monkeypatch.setattr("serow.server.log._MAX_FILE", 1000)
    before = logging.root.handlers[:]
    try:
        configure(Settings(), tmp_path / "log")
        for number in range(100):
            logging.getLogger("serow").info("line %d", number)
    finally:
        for handler in logging.root.handlers:
            handler.close()
        logging.root.handlers[:] = before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())


def test_a_server_that_was_killed_is_no_longer_listed(serow: Serow, free: str) -> None:
    serow("run", "zoo-think", "--think=false", QUESTION)
    [server] = running()
    os.kill(server.record.pid, signal.SIGKILL)
    reaped(server.record.pid)
    assert len(serow("server", "list").out.splitlines()) == 1


def test_a_state_directory_that_can_not_be_made_is_told(serow: Serow, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "file"))
    code, _, err = serow("server", "list")
    assert (code, err.splitlines()[0]) == (1, f"error: can't keep files in {home}/file: not a directory")
    assert err.splitlines()[1] == "hint: choose another one in XDG_STATE_HOME"
