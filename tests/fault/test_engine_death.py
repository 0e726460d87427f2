"""An engine that dies or hangs fails only its own requests, and the next one gets a new engine (LIFE-06)."""

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from serow.engines.socket_directory import SOCKET
from serow.scheduler.resident import State
from serow.settings import Settings
from tests.support.server import ENDLESS, Running, running, until

pytestmark = pytest.mark.req("LIFE-06", "RES-04")
TALK = {"model": "zoo-think", "prompt": "Hello", "options": ENDLESS}
SHORT = {"model": "zoo-think", "prompt": "Hello", "options": {"num_predict": 3}}
STALL_TIMEOUT = 1.0  # seconds


@pytest_asyncio.fixture(scope="module")
async def server(models: Path) -> AsyncIterator[Running]:
    """Engines are given up after a second without progress."""
    async with running(Settings(models=models, num_parallel=2, stall_timeout=STALL_TIMEOUT)) as started:
        yield started


async def is_answered(server: Running) -> bool:
    async with server.post(SHORT) as client:
        status, records = await client.answer()
    return status == 200 and records[-1]["done"] is True


DEATHS = [
    (signal.SIGKILL, "the engine ended with signal 9"),
    (signal.SIGABRT, "the engine ended with signal 6"),
    (signal.SIGSTOP, "the engine made no progress for 1 seconds"),
]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("death", "sentence"), DEATHS, ids=["killed", "aborted", "hanging"])
async def test_its_requests_end_with_the_reason_and_the_next_gets_a_new_one(
    server: Running, death: signal.Signals, sentence: str, stream: bool
) -> None:
    await server.load("zoo-think")
    pid = server.loaded.pid
    async with server.post({**TALK, "stream": stream}) as client:
        await (client.begins() if stream else until(server.num_busy))
        os.kill(pid, death)
        status, records = await client.answer()
    assert (status, records[-1]) == (200 if stream else 500, {"error": sentence})
    assert await is_answered(server)
    assert server.loaded.pid != pid
    assert not psutil.pid_exists(pid)


async def test_an_idle_engine_that_hangs_is_found_out_by_the_next_request(server: Running) -> None:
    await server.load("zoo-think")
    os.kill(server.loaded.pid, signal.SIGSTOP)
    async with server.post(SHORT) as client:
        assert await client.answer() == (500, [{"error": "the engine does not answer"}])
    assert await is_answered(server)


async def test_an_idle_engine_that_dies_is_not_noticed_by_the_next_request(server: Running) -> None:
    await server.load("zoo-think")
    os.kill(server.loaded.pid, signal.SIGKILL)
    await until(lambda: not server.scheduler.loaded())
    assert await is_answered(server)


async def test_requests_to_another_engine_go_on(server: Running) -> None:
    async with server.post({**TALK, "options": {**ENDLESS, "num_predict": 3000}}) as kept:
        await until(server.scheduler.loaded)
        other = server.loaded.pid
        async with server.post({**TALK, "model": "zoo-vision"}) as lost:
            await until(lambda: [each.num_running for each in server.scheduler.loaded()] == [1, 1])
            (pid,) = {loaded.pid for loaded in server.scheduler.loaded()} - {other}
            os.kill(pid, signal.SIGKILL)
            assert (await lost.answer())[1][-1] == {"error": "the engine ended with signal 9"}
        assert (await kept.answer())[1][-1]["done"] is True


async def kill_while_loading(server: Running) -> tuple[int, list[dict[str, Any]]]:
    async with server.post(SHORT) as client:
        await until(lambda: loading_pids(server))
        for pid in loading_pids(server):
            os.kill(pid, signal.SIGKILL)
        return await client.answer()


def loading_pids(server: Running) -> list[int]:
    loading = (resident.runner for resident in server.residents(State.LOADING))
    return [runner.pid for runner in loading if runner is not None and runner.pid]


async def test_repeated_deaths_while_loading_back_off_and_say_why(models: Path) -> None:
    failed = (500, [{"error": "could not load the model: the engine ended with signal 9 while it started"}])
    async with running(Settings(models=models)) as server:
        assert await kill_while_loading(server) == failed
        assert await kill_while_loading(server) == failed
        begun = time.monotonic()
        async with server.post(SHORT) as client:
            assert await client.answer() == failed  # at once: no third engine was started
        assert time.monotonic() - begun < 0.5
        assert server.scheduler._residents == []
        await until(lambda: is_answered(server))  # the pause after two failures is one second


async def test_an_engine_whose_socket_is_removed_fails_one_request_and_is_replaced(server: Running) -> None:
    await server.load("zoo-think")
    pid = server.loaded.pid
    (resident,) = server.residents(State.READY)
    socket = resident.runner._child._directory.path / SOCKET  # type: ignore[union-attr]
    socket.unlink()
    async with server.post({**SHORT, "stream": False}) as client:
        status, _ = await client.answer()
    assert status == 500
    assert await is_answered(server)
    assert not psutil.pid_exists(pid)
