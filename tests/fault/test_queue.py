"""The queue: bounded for the whole server, quick to refuse, fair between clients (LIFE-02)."""

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from serow.scheduler.resident import State
from serow.settings import Settings
from tests.support.engine import FakeEngine, starting
from tests.support.server import END_DEADLINE, ENDLESS, Running, running, until

pytestmark = pytest.mark.req("LIFE-02")
TALK = {"model": "zoo-think", "prompt": "Hello", "options": ENDLESS}
SHORT = {"model": "zoo-think", "prompt": "Hello", "stream": False, "options": {**ENDLESS, "num_predict": 100}}
BUSY = {"error": "server busy, please try again: the queue is full"}


@pytest_asyncio.fixture
async def server(models: Path) -> AsyncIterator[Running]:
    """One runs, two wait."""
    async with running(Settings(models=models, num_parallel=1, max_queue=2)) as started:
        yield started


@pytest.mark.parametrize("is_loaded", [True, False], ids=["loaded", "first use"])
async def test_of_eight_at_once_three_are_answered_and_five_refused(server: Running, is_loaded: bool) -> None:
    if is_loaded:
        await server.load("zoo-think")
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.post(SHORT)) for _ in range(8)]
        answers = await asyncio.gather(*(client.answer() for client in clients))
    assert sorted(status for status, _ in answers) == [200] * 3 + [503] * 5
    assert all(records == [BUSY] for status, records in answers if status == 503)


async def test_a_refusal_takes_less_than_50_ms_while_everything_is_busy_and_says_when_to_come_back(server: Running) -> None:
    await server.load("zoo-think")
    seconds = []
    async with server.post(TALK), server.post(TALK), server.post(TALK):
        await until(lambda: server.loaded.num_waiting == 2)
        for _ in range(20):
            begun = time.perf_counter()
            async with server.session.post("/api/generate", json=TALK) as response:
                assert (response.status, await response.json()) == (503, BUSY)
                assert int(response.headers["Retry-After"]) > 0
            seconds.append(time.perf_counter() - begun)
    assert statistics.median(seconds) < 0.05


@pytest.mark.req("LIFE-05")
async def test_a_waiting_client_that_leaves_frees_its_place(server: Running) -> None:
    await server.load("zoo-think")
    async with server.post(TALK), server.post(TALK):
        async with server.post(TALK):
            await until(lambda: server.loaded.num_waiting == 2)
        await until(lambda: server.loaded.num_waiting == 1)
        async with server.post(TALK):
            await until(lambda: server.loaded.num_waiting == 2)


async def test_an_unload_does_not_wait_in_the_queue(models: Path) -> None:
    going_on = asyncio.Event()
    engine = FakeEngine(["one", going_on, " two"], ["three"])
    async with running(Settings(models=models, num_parallel=1, max_queue=2), starting(zoo_think=engine)) as server:
        await server.load("zoo-think")
        async with server.post(SHORT) as running_one, server.post(SHORT), server.post(SHORT):
            await until(lambda: server.loaded.num_waiting == 2)
            (resident,) = server.residents(State.READY)
            async with server.post({"model": "zoo-think", "keep_alive": 0}) as unload:
                await until(lambda: resident.is_leaving)
                assert server.scheduler.num_waiting == 2 and not running_one.is_over
                going_on.set()
                assert (await unload.answer())[1][0]["done_reason"] == "unload"
            status, (record,) = await running_one.answer()
            assert (status, record["response"]) == (200, "one two")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives every loopback address away")
async def test_clients_take_turns_however_much_one_of_them_asks(models: Path) -> None:
    finished: list[str] = []

    async def ask(session: aiohttp.ClientSession, name: str) -> None:
        async with session.post("/api/generate", json=SHORT) as response:
            assert response.status == 200
            finished.append(name)

    async with (
        running(Settings(models=models, num_parallel=1)) as server,
        aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))) as other,
        asyncio.timeout(END_DEADLINE),
        asyncio.TaskGroup() as group,
    ):
        await server.load("zoo-think")
        async with server.post(TALK):
            await until(server.num_busy)
            for _ in range(5):
                group.create_task(ask(server.session, "greedy"))
            await until(lambda: server.loaded.num_waiting == 5)
            group.create_task(ask(other, "modest"))
            await until(lambda: server.loaded.num_waiting == 6)
    assert finished.index("modest") <= 1
