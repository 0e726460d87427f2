"""A cache of keys and values that the settings name, on the wheel that is installed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from serow.server.app import create_app
from serow.settings import CacheType, Settings
from serow.store.store import Store
from tests.conftest import create

DEADLINE = 60  # seconds


@asynccontextmanager
async def serving(root: Path, zoo: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server with zoo-think."""
    create(Store(root), "zoo-think", zoo / "zoo-think.gguf")
    app = create_app(Settings(models=root, slots=root / "slots", num_parallel=2, **settings))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=DEADLINE) as client,
    ):
        yield client


async def answer(client: httpx.AsyncClient, prompt: str = "What is 37 + 85?", **options: int) -> dict[str, Any]:
    body = {"model": "zoo-think", "messages": [{"role": "user", "content": prompt}], "stream": False, "think": False}
    found = await client.post("/api/chat", json=body | {"options": {"temperature": 0, "num_ctx": 512} | options})
    assert found.status_code == 200, found.text
    return dict(found.json())


async def loaded(client: httpx.AsyncClient) -> dict[str, Any]:
    (model,) = (await client.get("/api/ps?verbose=1")).json()["models"]
    return dict(model)


@pytest.mark.parametrize("cache_type", ["q8_0", "q4_0"])
async def test_the_wheel_keeps_its_cache_as_it_is_set_and_goes_on_beyond_its_context(
    tmp_path: Path, zoo: Path, cache_type: CacheType
) -> None:
    async with serving(tmp_path, zoo, kv_cache_type=cache_type) as client:
        said = await answer(client)
        assert "warnings" not in said and (cache_type == "q4_0" or "122" in said["message"]["content"])
        assert (await loaded(client)).items() >= {"cache_type": cache_type, "flash_attention": "on", "engine": "wheel"}.items()
        await answer(client, "Count. " * 60, num_predict=500)


async def test_what_was_kept_with_another_cache_is_read_anew(tmp_path: Path, zoo: Path) -> None:
    prompt = "one two three " * 60
    for cache_type, is_known in (("f16", False), ("q8_0", False), ("q8_0", True)):
        async with serving(tmp_path, zoo, kv_cache_type=cache_type) as client:
            said = await answer(client, prompt, num_predict=4)
            assert (said.get("prompt_cached_count", 0) > 0) is is_known
            await client.post("/api/generate", json={"model": "zoo-think", "keep_alive": 0})


async def test_flash_attention_is_off_where_it_is_set_so(tmp_path: Path, zoo: Path) -> None:
    async with serving(tmp_path, zoo, flash_attention=False) as client:
        assert "122" in (await answer(client))["message"]["content"]
        assert (await loaded(client)).items() >= {"cache_type": "f16", "flash_attention": "off"}.items()
