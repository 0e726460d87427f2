"""A client that leaves, in every phase: its work stops within a second, as the engine's own slots say (LIFE-05)."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from serow.scheduler.resident import State
from serow.settings import Settings
from serow.store.store import Store
from tests.pictures import SHAPES, create_pipeline, needs_packages
from tests.support.server import ENDLESS, ONE_SECOND, Running, running, until

pytestmark = pytest.mark.req("LIFE-05")
NUM_READERS = 8  # whose prompts are some seconds of work
TALK = {"model": "zoo-think", "prompt": "Hello", "options": ENDLESS}


@pytest_asyncio.fixture(scope="module")
async def server(models: Path) -> AsyncIterator[Running]:
    """One place for each model."""
    async with running(Settings(models=models, num_parallel=1)) as started:
        yield started


async def is_idle(server: Running) -> bool:
    return await server.num_busy() == 0 and server.loaded.num_running == 0


async def is_decoding(server: Running) -> bool:
    return any(slot["is_processing"] and slot["next_token"][0]["n_decoded"] > 0 for slot in await server.slots())


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_who_leaves_while_it_decodes_frees_the_slot(server: Running, stream: bool) -> None:
    await server.load("zoo-think")
    async with server.post({**TALK, "stream": stream}):
        await until(lambda: is_decoding(server))
    await until(lambda: is_idle(server), ONE_SECOND)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_who_leaves_while_the_prompt_is_read_frees_the_slot(models: Path, stream: bool) -> None:
    options = {"num_ctx": 2048, "num_batch": 32, "num_thread": 1}
    long = {"model": "zoo-think", "prompt": "word " * 900, "raw": True, "stream": stream, "options": options}
    async with running(Settings(models=models, num_parallel=NUM_READERS)) as server:
        await server.load("zoo-think", **options)
        async with contextlib.AsyncExitStack() as clients:
            for number in range(NUM_READERS):
                await clients.enter_async_context(server.post({**long, "prompt": f"{number} {long['prompt']}"}))
            await until(server.num_busy)
        await until(lambda: is_idle(server), ONE_SECOND)
        assert sum(slot.get("n_prompt_tokens", 0) for slot in await server.slots()) < 1800 * NUM_READERS


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_who_leaves_the_queue_is_forgotten(server: Running, stream: bool) -> None:
    await server.load("zoo-think")
    async with server.post(TALK):
        await until(server.num_busy)
        async with server.post({**TALK, "stream": stream}):
            await until(lambda: server.loaded.num_waiting == 1)
        await until(lambda: server.loaded.num_waiting == 0, ONE_SECOND)
        assert await server.num_busy() == 1


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_who_leaves_while_the_model_loads_leaves_its_place(models: Path, stream: bool) -> None:
    async with running(Settings(models=models, num_parallel=1)) as server:
        async with server.post({**TALK, "stream": stream}):
            await until(lambda: server.residents(State.LOADING))
        await until(lambda: [resident.num_running for resident in server.residents(State.LOADING)] in ([0], []), ONE_SECOND)
        await until(server.scheduler.loaded)
        assert await is_idle(server)


async def test_who_leaves_while_a_thinking_model_is_held_to_a_format_frees_the_slot(server: Running) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 1000}
    await server.load("zoo-think")
    async with server.post({"model": "zoo-think", "prompt": "Count", "format": schema, "options": {"num_predict": -1}}):
        await until(lambda: is_decoding(server))
    await until(lambda: is_idle(server), ONE_SECOND)


async def test_many_who_leave_at_once_leave_nothing(models: Path) -> None:
    async with running(Settings(models=models, num_parallel=4)) as server:
        await server.load("zoo-think")
        async with contextlib.AsyncExitStack() as clients:
            for _ in range(20):
                await clients.enter_async_context(server.post(TALK))
            await until(lambda: (server.loaded.num_running, server.loaded.num_waiting) == (4, 16))
        await until(lambda: is_idle(server), ONE_SECOND)
        assert server.loaded.num_waiting == 0


@pytest_asyncio.fixture(scope="module")
async def drawing_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A server with the tiny pipeline in memory."""
    root = tmp_path_factory.mktemp("pictures")
    create_pipeline(Store(root), "shapes", SHAPES)
    async with running(Settings(models=root)) as started:
        await started.load("shapes")
        yield started


@needs_packages
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_who_leaves_while_a_picture_is_drawn_ends_it_after_its_step(drawing_server: Running, stream: bool) -> None:
    server = drawing_server
    wanted = {"model": "shapes", "prompt": "a red circle", "width": 64, "height": 64}
    async with server.post({**wanted, "steps": 1000, "stream": stream}):
        await until(lambda: server.loaded.num_running == 1)
    await until(lambda: server.loaded.num_running == 0, ONE_SECOND)
    async with server.post({**wanted, "steps": 2}) as next_one:  # one picture at a time: it waits for what still runs
        status, records = await next_one.answer()
    assert (status, records[-1]["done"]) == (200, True)
