"""The end of the server, by force and in peace: no engine outlives it, no client is left without an answer."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from tests.engines.llamacpp.engines import ends
from tests.support.server import END_DEADLINE, ENDLESS, Served, served, until

TALK = {"model": "zoo-think", "prompt": "Hello", "options": ENDLESS}
linux = pytest.mark.skipif(sys.platform != "linux", reason="pidfd is Linux's")


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A runtime directory of its own, with a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="t") as directory:
        yield Path(directory)


def load(server: Served) -> None:
    httpx.post(f"{server.url}/api/generate", json={"model": "zoo-think"}, timeout=END_DEADLINE).raise_for_status()


def ended(server: Served) -> int:
    """End it in peace and return its exit status."""
    server.process.send_signal(signal.SIGTERM)
    return server.process.wait(END_DEADLINE)


@linux
@pytest.mark.req("LIFE-06")
def test_a_server_that_is_killed_leaves_no_engine_and_the_next_one_clears_up(models: Path, temporary: Path) -> None:
    with served(models, XDG_RUNTIME_DIR=str(temporary)) as server:
        load(server)
        engines = [os.pidfd_open(engine.pid) for engine in server.engines()]
        server.process.kill()
    assert engines and all(ends(engine) for engine in engines)
    assert [path.name[:7] for path in (temporary / "serow").iterdir()] == ["engine-"]
    with served(models, XDG_RUNTIME_DIR=str(temporary)):
        assert list((temporary / "serow").iterdir()) == []


@linux
@pytest.mark.req("LIFE-07")
def test_a_server_that_is_ended_leaves_nothing_and_exits_with_zero(models: Path, temporary: Path) -> None:
    with served(models, XDG_RUNTIME_DIR=str(temporary)) as server:
        load(server)
        engines = [os.pidfd_open(engine.pid) for engine in server.engines()]
        assert ended(server) == 0
    assert engines and all(ends(engine) for engine in engines)
    assert list((temporary / "serow").iterdir()) == []


async def lines_of(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await response.read()).splitlines()]


@pytest.mark.req("LIFE-07")
async def test_a_stream_in_flight_finishes_and_new_work_is_refused(models: Path) -> None:
    wanted = {**TALK, "options": {**ENDLESS, "num_predict": 600}}
    with served(models, SEROW_NUM_PARALLEL="1", SEROW_GRACE=f"{END_DEADLINE}s") as server:
        async with (
            asyncio.timeout(END_DEADLINE),
            aiohttp.ClientSession(server.url) as session,
            session.post("/api/generate", json=wanted) as response,
        ):
            await response.content.readline()
            waiting = asyncio.create_task(session.post("/api/generate", json=TALK))
            await until_counted(session, num_waiting=1)
            server.process.send_signal(signal.SIGTERM)
            refused = await waiting
            assert (refused.status, await refused.json()) == (503, {"error": "the server is shutting down"})
            assert refused.headers["Retry-After"] == "1"
            assert (await lines_of(response))[-1]["done_reason"] == "length"
        assert server.process.wait(END_DEADLINE) == 0


async def until_counted(session: aiohttp.ClientSession, **wanted: int) -> None:
    """Until the one loaded model has so many requests."""

    async def is_so() -> bool:
        async with session.get("/api/ps", params={"verbose": "1"}) as response:
            (model,) = (await response.json())["models"]
        return all(model[name] == count for name, count in wanted.items())

    await until(is_so)


@pytest.mark.req("LIFE-07", "RES-04")
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_what_the_grace_time_cuts_off_ends_with_an_error(models: Path, stream: bool) -> None:
    with served(models, SEROW_GRACE="1s") as server:
        load(server)
        async with aiohttp.ClientSession(server.url) as session, asyncio.timeout(END_DEADLINE):
            asking = asyncio.create_task(session.post("/api/generate", json={**TALK, "stream": stream}))
            await (asyncio.wait({asking}) if stream else until_counted(session, num_running=1))
            server.process.send_signal(signal.SIGTERM)
            async with await asking as response:
                assert response.status == (200 if stream else 503)
                assert (await lines_of(response))[-1] == {"error": "the server is shutting down"}
        assert server.process.wait(END_DEADLINE) == 0


@pytest.mark.req("LIFE-07")
async def test_a_second_signal_does_not_wait(models: Path) -> None:
    with served(models, SEROW_GRACE="1h") as server:
        load(server)
        async with aiohttp.ClientSession(server.url) as session, asyncio.timeout(END_DEADLINE):
            asking = asyncio.create_task(session.post("/api/generate", json={**TALK, "stream": False}))
            await until_counted(session, num_running=1)
            server.process.send_signal(signal.SIGINT)
            await until(lambda: is_closed(server))
            server.process.send_signal(signal.SIGINT)
            await asyncio.to_thread(server.process.wait, END_DEADLINE)
            assert server.process.returncode == 0
            await asyncio.wait({asking})


async def is_closed(server: Served) -> bool:
    """Whether it takes no more connections."""
    try:
        async with aiohttp.ClientSession() as session, session.get(server.url):
            return False
    except aiohttp.ClientError:
        return True
