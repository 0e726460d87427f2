"""The life of a child process: private while it lives, gone when it should be."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from serow.engines import process
from serow.engines.kinds import Engine
from serow.engines.llamacpp.params import describe
from serow.engines.process import ChildProcess, State
from serow.errors import LoadError
from serow.system.limits import clean_environment
from tests.engines.llamacpp.engines import DEADLINE, ends, load_request
from tests.support.server import until

WORKER = "serow.engines.llamacpp.worker"
linux = pytest.mark.skipif(sys.platform != "linux", reason="pidfd and /proc are Linux's")


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for sockets of its own, with a path short enough for one."""
    with tempfile.TemporaryDirectory(prefix="t") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield Path(directory, "serow")


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


@asynccontextmanager
async def started(zoo: Path) -> AsyncIterator[ChildProcess]:
    child = ChildProcess(WORKER, describe(load_request(zoo / "zoo-think.gguf")), load_timeout=DEADLINE)
    await child.start()
    try:
        yield child
    finally:
        await child.close()


async def test_a_child_answers_once_it_is_started(zoo: Path) -> None:
    async with started(zoo) as child:
        assert child.state is State.READY
        async with child.session.get("/health") as response:
            assert response.status == 200


async def test_its_socket_lies_in_a_directory_that_others_can_not_enter(zoo: Path, temporary: Path) -> None:
    async with started(zoo):
        (name,) = names_in(temporary)
        assert (temporary / name).stat().st_mode & 0o777 == 0o700
        assert names_in(temporary / name) == [".serow", "engine.sock"]


@pytest.mark.parametrize("longest_path", [process._LONGEST_SOCKET_PATH, 0], ids=["unix socket", "loopback port"])
async def test_without_its_key_a_child_refuses(zoo: Path, monkeypatch: pytest.MonkeyPatch, longest_path: int) -> None:
    monkeypatch.setattr(process, "_LONGEST_SOCKET_PATH", longest_path)
    async with started(zoo) as child:
        for authorization in ("", "Bearer wrong"):
            async with child.session.get("/props", headers={"Authorization": authorization}) as response:
                assert response.status == 401


async def test_its_key_stands_in_no_command_line_or_environment(zoo: Path) -> None:
    async with started(zoo) as child:
        key = child.session.headers["Authorization"].removeprefix("Bearer ")
        seen = psutil.Process(child.pid)
        assert key not in " ".join([*seen.cmdline(), *seen.environ().values()])


@pytest.mark.parametrize(
    ("name", "is_handed_on"),
    [
        ("SEROW_API_KEYS", False),
        ("OLLAMA_API_KEY", False),
        ("OTEL_EXPORTER_OTLP_HEADERS", False),
        ("PIP_INDEX_URL", False),
        ("UV_INDEX_PRIVATE_PASSWORD", False),
        ("HTTPS_PROXY", False),
        ("HF_TOKEN", False),
        ("CUDA_API_TOKEN", False),
        ("AWS_SECRET_ACCESS_KEY", False),
        ("SOMETHING_ELSE", False),
        ("CUDA_VISIBLE_DEVICES", True),
        ("GGML_VK_VISIBLE_DEVICES", True),
        ("OMP_NUM_THREADS", True),
        ("LD_LIBRARY_PATH", True),
        ("TMPDIR", True),
    ],
)
def test_an_engine_gets_what_tunes_it_and_no_secret(monkeypatch: pytest.MonkeyPatch, name: str, is_handed_on: bool) -> None:
    monkeypatch.setenv(name, "x")
    assert (name in clean_environment(*process._LIBRARIES)) == is_handed_on


async def test_secrets_of_the_server_are_not_handed_on(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEROW_API_KEYS", "OTEL_EXPORTER_OTLP_HEADERS", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "secret")
    async with started(zoo) as child:
        assert "secret" not in psutil.Process(child.pid).environ().values()


def told(name: str) -> str:
    """What the system tells of a process."""
    return Path("/proc", name).read_text()


@linux
async def test_the_system_ends_an_engine_before_the_server_and_keeps_no_image_of_its_memory(zoo: Path) -> None:
    spec = describe(replace(load_request(zoo / "zoo-think.gguf"), memory=100 << 20, prompt_cache=0))
    child = ChildProcess(WORKER, spec, load_timeout=DEADLINE)
    await child.start()
    try:
        limits, score, own = (
            told(name) for name in (f"{child.pid}/limits", f"{child.pid}/oom_score_adj", "self/oom_score_adj")
        )
        assert int(score) > int(own)
        assert re.search(r"Max core file size +0 +0 ", limits)
        assert re.search(rf"Max data size +{(1224 << 20) * 5 // 4} ", limits)
    finally:
        await child.close()


async def test_a_child_that_holds_more_than_it_may_is_ended_with_the_reason(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_MEMORY_POLL", 0.01)  # before it is ready: a tiny model loads in less than one look
    child = ChildProcess(WORKER, describe(load_request(zoo / "zoo-think.gguf")), load_timeout=DEADLINE, memory_limit=1 << 20)
    with pytest.raises(LoadError, match=r"^the engine took more memory than it may$"):
        await child.start()
    assert child.is_greedy and child.state is State.DEAD


async def test_closing_leaves_no_process_and_no_directory(zoo: Path, temporary: Path) -> None:
    async with started(zoo) as child:
        assert child.size > 10 << 20
    assert child.state is State.DEAD
    assert not psutil.pid_exists(child.pid)
    assert names_in(temporary) == []
    assert child.size == 0


async def test_closing_twice_or_before_the_start_does_no_harm(zoo: Path) -> None:
    child = ChildProcess(WORKER, {}, load_timeout=DEADLINE)
    await child.close()
    async with started(zoo) as child:
        await asyncio.gather(child.close(), child.close())


@linux
async def test_a_child_that_hangs_is_closed_by_force(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "CLOSE_TIMEOUT", 0.1)
    async with started(zoo) as child:
        os.kill(child.pid, signal.SIGSTOP)
    assert not psutil.pid_exists(child.pid)


async def test_a_child_that_ends_while_it_starts_is_a_load_error_at_once(temporary: Path) -> None:
    child = ChildProcess("serow.engines.no_such_module", {}, load_timeout=1000)
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(LoadError, match=r"^the engine ended with status 1 while it started$"):
            await child.start()
    assert names_in(temporary) == []


@linux
async def test_a_child_that_leaves_a_process_behind_which_holds_its_stderr_is_dead_at_once(temporary: Path) -> None:
    child = ChildProcess("tests.engines.deserting_child", {}, load_timeout=1000)
    try:
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(LoadError, match=r"^the engine ended with status 3 while it started$"):
                await child.start()
    finally:
        os.kill(int(child.stderr), signal.SIGKILL)
    assert names_in(temporary) == []


@linux
async def test_closing_does_not_wait_for_a_process_that_the_system_does_not_end(
    zoo: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "CLOSE_TIMEOUT", 0.1)
    async with started(zoo) as child:
        kill = child.kill
        monkeypatch.setattr(child, "kill", lambda fault: None)
        os.kill(child.pid, signal.SIGSTOP)
        await until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
        try:
            async with asyncio.timeout(DEADLINE):
                await child.close()
            assert child.state is State.DEAD
        finally:
            kill("the test is over")
    assert f"process {child.pid} of an engine can't be ended" in caplog.text


@pytest.mark.req("LIFE-06")
def test_a_child_that_is_killed_before_it_has_its_assignment_is_a_load_error(monkeypatch: pytest.MonkeyPatch) -> None:
    uvloop = pytest.importorskip("uvloop")  # the server's loop, which refuses to write to a pipe that is gone
    spawn = asyncio.create_subprocess_exec

    async def spawn_killed(*argv: Any, **streams: Any) -> asyncio.subprocess.Process:
        process = await spawn(*argv, **streams)
        process.kill()
        assert process.stdin is not None
        async with asyncio.timeout(DEADLINE):
            await process.wait()
            await process.stdin.wait_closed()
        return process

    async def start() -> None:
        child = ChildProcess(WORKER, {}, load_timeout=DEADLINE)
        with pytest.raises(LoadError, match="signal 9"):
            await child.start()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", spawn_killed)
    uvloop.run(start())


async def test_a_child_that_never_answers_is_ended_at_the_deadline(temporary: Path) -> None:
    child = ChildProcess("tests.engines.mute_child", {}, load_timeout=0.1)
    with pytest.raises(LoadError, match=r"^the model did not load within 0.1 seconds$"):
        await child.start()
    assert child.state is State.DEAD
    assert names_in(temporary) == []


async def test_a_start_that_is_cancelled_leaves_nothing(temporary: Path) -> None:
    child = ChildProcess("tests.engines.mute_child", {}, load_timeout=1000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await child.start()
    assert child.pid == 0 or not psutil.pid_exists(child.pid)
    assert names_in(temporary) == []


async def test_a_child_that_is_killed_is_dead_to_those_who_ask(zoo: Path) -> None:
    async with started(zoo) as child:
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(aiohttp.ClientError):
            while True:
                async with child.session.get("/health"):
                    pass
        assert str(await child.gone()) == "the engine ended with signal 9"
        assert not child.is_alive


@linux
@pytest.mark.req("LIFE-06")
def test_a_parent_that_is_killed_leaves_no_child(zoo: Path, engine: Engine) -> None:
    argv = [sys.executable, "-m", "tests.engines.orphaning_parent", str(zoo / "zoo-think.gguf"), engine.name]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert children
    assert all(ends(child) for child in children)
