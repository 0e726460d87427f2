"""Programs that build: what is kept of what they write, and how they end."""

import asyncio
import os
import sys
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from serow.engines.build import command
from serow.engines.build.command import run
from serow.engines.build.edit import BuildError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")
DEADLINE = 30.0


async def ran(script: str, log: Path, silence: float = DEADLINE) -> bytes:
    """What a shell script writes."""
    written = b""
    argv = ["/bin/sh", "-c", script]
    async with asyncio.timeout(DEADLINE):
        with log.open("wb", buffering=0) as file:
            async with aclosing(run(argv, file, environ=os.environ, silence=silence, hint="see the log")) as output:
                async for chunk in output:
                    written += chunk
    return written


def kept(log: Path) -> bytes:
    return log.read_bytes()


def pid_in(log: Path) -> int:
    """The process that has said its number first."""
    return int(log.read_text().split()[0])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the log will be."""
    return tmp_path / "log"


async def test_both_streams_of_a_program_are_told_and_kept(log: Path) -> None:
    written = await ran("echo one; echo two >&2", log)
    assert written == b"one\ntwo\n" == kept(log)


async def test_a_program_that_fails_is_named_with_its_errors_alone(log: Path) -> None:
    script = "echo fine; echo 'a.cpp:1: error: no such thing'; echo 'FAILED: a.o'; echo more; exit 3"
    with pytest.raises(BuildError) as caught:
        await ran(script, log)
    assert str(caught.value) == "sh ended with status 3\n  a.cpp:1: error: no such thing\n  FAILED: a.o"
    assert caught.value.hint == "see the log"


async def test_without_errors_the_last_lines_are_shown(log: Path) -> None:
    with pytest.raises(BuildError) as caught:
        await ran("for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; done; kill -11 $$", log)
    assert str(caught.value).splitlines() == ["sh ended with signal 11", *(f"  line {i}" for i in range(3, 11))]


async def test_a_program_that_writes_nothing_for_long_is_ended(log: Path) -> None:
    with pytest.raises(BuildError, match=r"^sh made no progress for 0\.2 seconds$"):
        await ran("echo $$; read word < /dev/tty; while :; do read word < /dev/zero; done", log, silence=0.2)
    assert not psutil.pid_exists(pid_in(log))


async def test_a_program_that_is_left_is_ended_with_those_that_it_started(log: Path) -> None:
    argv = ["/bin/sh", "-c", "sh -c 'echo $$; exec tail -f /dev/null' & wait"]
    with log.open("wb", buffering=0) as file:
        async with aclosing(run(argv, file, environ=os.environ, silence=DEADLINE, hint="")) as output:
            child = psutil.Process(int(await anext(output)))
    assert psutil.wait_procs([child], DEADLINE)[1] == []


async def test_nothing_stays_open_of_a_program_that_nobody_has_read_to_the_end(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "CHUNK", 100)
    argv = ["/bin/sh", "-c", "exec cat /dev/zero"]
    before = psutil.Process().num_fds()
    with log.open("wb", buffering=0) as file:
        async with aclosing(run(argv, file, environ=os.environ, silence=DEADLINE, hint="")) as output:
            assert len(await anext(output)) == 100
    assert psutil.Process().num_fds() == before


async def test_a_program_that_will_not_end_is_killed(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_END_TIMEOUT", 0.1)
    with pytest.raises(BuildError, match="made no progress"):
        await ran("trap '' TERM; echo $$; while :; do :; done", log, silence=0.2)
    assert not psutil.pid_exists(pid_in(log))


async def test_a_program_that_is_not_there_is_an_error_of_the_system(log: Path) -> None:
    with log.open("wb") as file, pytest.raises(FileNotFoundError):
        async for _ in run(["/nowhere/nothing"], file, environ={}, silence=1, hint=""):
            raise AssertionError
