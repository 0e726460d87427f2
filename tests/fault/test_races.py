"""Models that are made, copied, shown and deleted at the same time under the same names."""

import asyncio
import random
from pathlib import Path

import httpx
import pytest

from serow.server.app import create_app
from serow.settings import Settings
from serow.store.store import Store
from tests.conftest import create

NUM_CLIENTS, NUM_STEPS = 8, 25
FITTING = {"/api/create": {200}, "/api/copy": {200}, "/api/delete": {200, 404}, "/api/show": {200, 404}}


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_is_first_no_answer_is_wrong(tmp_path: Path, zoo: Path, seed: int) -> None:
    store = Store(tmp_path / "models")
    create(store, "zoo-think", zoo / "zoo-think.gguf")
    app = create_app(Settings(models=store.root, slots=tmp_path / "slots", slot_cache=0))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=60) as client,
    ):
        clients = (live(client, random.Random(seed * NUM_CLIENTS + number)) for number in range(NUM_CLIENTS))
        wrong = [answer for answers in await asyncio.gather(*clients) for answer in answers]
        assert wrong == []
        listed = (await client.get("/api/tags")).json()["models"]
        for model in listed:
            assert (await client.post("/api/show", json={"model": model["name"]})).status_code == 200


async def live(client: httpx.AsyncClient, chance: random.Random) -> list[tuple[str, int, str]]:
    """Do one thing after another with one of three names; returns answers that nobody should get."""
    wrong = []
    for _ in range(NUM_STEPS):
        path, name = chance.choice(list(FITTING)), f"m{chance.randrange(3)}"
        body: dict[str, object] = {"model": name}
        if path == "/api/create":
            body |= {"from": "zoo-think", "system": f"s{chance.randrange(3)}", "stream": False}
        elif path == "/api/copy":
            body = {"source": "zoo-think", "destination": name}
        answer = await client.request("DELETE" if path == "/api/delete" else "POST", path, json=body)
        if answer.status_code not in FITTING[path]:
            wrong.append((path, answer.status_code, answer.text))
    return wrong
