"""A conversation goes on where it was, though its model left memory: unloaded, evicted, or with the whole server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from serow.server.app import create_app
from serow.settings import Settings
from serow.store.store import Store
from tests.conftest import create

DEADLINE = 60  # seconds
SAID = " ".join(f"{number} + {number} = {2 * number}." for number in range(40))


@pytest.fixture
def settings(tmp_path: Path, zoo: Path) -> Settings:
    """A server with zoo-think, and a copy of it that differs in a byte that nobody reads."""
    for name in ("zoo-think", "other"):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes((zoo / "zoo-think.gguf").read_bytes() + name.encode())
        create(Store(tmp_path), name, path)
    return Settings(models=tmp_path, slots=tmp_path / "slots", num_thread=1, num_parallel=2)


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=DEADLINE) as client,
    ):
        yield client


async def say(client: httpx.AsyncClient, text: str, model: str = "zoo-think", **body: Any) -> tuple[int, int]:
    """How many tokens a prompt has, and how many of them were there."""
    body |= {"model": model, "prompt": text, "raw": True, "stream": False, "options": {"num_predict": 1}}
    answer = (await client.post("/api/generate", json=body)).json()
    return answer["prompt_eval_count"], answer["prompt_cached_count"]


async def goes_on(client: httpx.AsyncClient) -> bool:
    count, cached = await say(client, f"{SAID} 50 + 1 =")
    return count > 200 and cached > 200


async def test_it_goes_on_after_an_unload(settings: Settings) -> None:
    async with served(settings) as client:
        assert (await say(client, SAID, keep_alive=0))[1] == 0
        assert await goes_on(client)


async def test_it_goes_on_after_an_eviction(settings: Settings) -> None:
    async with served(replace(settings, max_loaded_models=1)) as client:
        await say(client, SAID)
        await say(client, SAID, "other")
        assert await goes_on(client)


async def test_it_goes_on_when_the_server_was_stopped_and_started(settings: Settings) -> None:
    async with served(settings) as client:
        await say(client, SAID)
    async with served(settings) as client:
        assert await goes_on(client)


async def test_nothing_goes_on_when_it_is_switched_off(settings: Settings) -> None:
    async with served(settings) as client:
        await say(client, SAID)
    async with served(replace(settings, slot_cache=0)) as client:
        assert not await goes_on(client)
    assert not list((settings.models / "slots").iterdir())


@pytest.mark.parametrize("keep_alive", [0, "5m"])
async def test_a_deleted_model_takes_with_it_what_its_users_said(settings: Settings, keep_alive: int | str) -> None:
    async with served(settings) as client:
        await say(client, SAID, "other", keep_alive=0)
        await say(client, SAID, keep_alive=keep_alive)
        await client.request("DELETE", "/api/delete", json={"model": "zoo-think"})
    assert len(list((settings.models / "slots").iterdir())) == 1
