"""What happens when replicas of a real vLLM die, clients leave and a router stands between (REM-05, REM-09)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from serow.settings import Settings
from tests.compat.vllm.door import DEADLINE, Door
from tests.compat.vllm.replicas import MODEL, Engine, kill, replica, router
from tests.support.server import running, until

pytestmark = pytest.mark.timeout(1800)
_LONG = {"model": "m", "prompt": "Once upon a time", "raw": True, "options": {"num_predict": 900, "logit_bias": {"2": -100}}}


class Cluster:
    """Two replicas behind a router, and Serow before it."""

    def __init__(self, door: Door, engines: list[Engine], entrance: Engine) -> None:
        self.door = door
        self.engines = engines
        self.entrance = entrance


@pytest_asyncio.fixture(scope="session")
async def cluster(environment: Path, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(replica(environment)) for _ in range(2)]
        entrance = await stack.enter_async_context(router(environment, *engines))
        server = await stack.enter_async_context(running(Settings(models=tmp_path_factory.mktemp("store"))))
        door = Door(server, tokenizer)
        await door.create(entrance.host)
        await door.create(",".join(engine.host for engine in engines), "both")
        yield Cluster(door, engines, entrance)


@pytest.mark.req("REM-05", "REM-09")
async def test_a_client_that_leaves_is_out_of_the_engine_s_list_through_the_router(cluster: Cluster) -> None:
    async with cluster.door.server.post(_LONG) as client:
        async with asyncio.timeout(DEADLINE):
            await client.begins()
        await until(lambda: _num_running(cluster, 1), deadline=DEADLINE)
    left = time.monotonic()
    await until(lambda: _num_running(cluster, 0), deadline=30.0)
    print(f"\nout of the engine's list {time.monotonic() - left:.2f} s after the client had left")


async def _num_running(cluster: Cluster, count: int) -> bool:
    return sum([await engine.num_running() for engine in cluster.engines]) == count


@pytest.mark.req("REM-09")
async def test_a_text_is_the_one_that_the_bare_engine_gives_the_same_ids(cluster: Cluster) -> None:
    body = {"model": MODEL, "prompt": "The sky is", "max_tokens": 24, "temperature": 0, "add_special_tokens": False}
    async with aiohttp.ClientSession() as session, session.post(f"{cluster.entrance.url}/v1/completions", json=body) as answer:
        bare = (await answer.json())["choices"][0]["text"]
    (found,) = await cluster.door.records(
        "/api/generate", prompt="The sky is", raw=True, stream=False, options={"num_predict": 24}
    )
    assert found["response"] == bare


@pytest.mark.req("REM-05", "REM-09")
async def test_a_replica_s_death_ends_its_own_requests_and_no_others(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(cluster.door.server.post(_LONG)) for _ in range(4)]
        await until(lambda: _num_running(cluster, 4), deadline=DEADLINE)
        on_dead = await cluster.engines[0].num_running()
        kill(cluster.engines[0])
        killed = time.monotonic()
        await until(lambda: sum(client.is_over for client in clients) >= on_dead, deadline=60.0)
        print(f"\nthe {on_dead} requests of the dead replica were over {time.monotonic() - killed:.1f} s after kill -9")
        last = [(await client.answer())[1][-1] for client in clients if client.is_over]
        assert len(last) == on_dead and all("error" in record for record in last)
        assert await cluster.engines[1].num_running() == len(clients) - on_dead
        for model, way in (("both", "Serow's own two addresses"), ("m", "the router")):
            took = await _served_again(cluster, model)
            print(f"the next request was served {took:.1f} s after it was asked, by {way}")
            assert took < 5.0
        assert await cluster.engines[1].num_running() == len(clients) - on_dead


async def _served_again(cluster: Cluster, model: str) -> float:
    """Seconds until a request is answered; one that meets the dead replica is told so, and asked again as a client would."""
    asked = time.monotonic()
    while True:
        body = {**_LONG, "model": model, "options": {"num_predict": 4}, "stream": False}
        status, text = await cluster.door.text("/api/generate", body)
        if status == 200:
            assert json.loads(text)["eval_count"] == 4
            return time.monotonic() - asked
        print(f"{model}: {status} {text}")
        assert status in (502, 503), text
        await asyncio.sleep(0.2)
