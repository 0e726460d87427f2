"""What clients are told of devices: the list, a model that runs partly on the CPU, and the numbers."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serow.server.app import create_app
from serow.settings import Settings
from serow.store.store import Store
from tests.conftest import create
from tests.devices.drivers import engine
from tests.support.engine import FakeEngine

LARGE = "  CUDA0: A card (8000 MiB, 7000 MiB free)"
SMALL = "  CUDA0: A card (800 MiB, 402 MiB free)"  # 400 MiB are the driver's own
DEADLINE = 60  # seconds


@pytest.fixture
def listing() -> str:
    return LARGE


@pytest.fixture
async def client(tmp_path: Path, zoo: Path, listing: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that has zoo-think, and an engine that lists a device and computes nothing."""
    create(Store(tmp_path), "zoo-think", zoo / "zoo-think.gguf")
    settings = Settings(models=tmp_path, llama_server=engine(tmp_path / "llama-server", listing))
    app = create_app(settings, lambda request: FakeEngine(["hi"]))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=DEADLINE) as client,
    ):
        yield client


async def generate(client: httpx.AsyncClient, **fields: object) -> dict[str, object]:
    answer = await client.post("/api/generate", json={"model": "zoo-think", "stream": False, **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.req("DEV-01", "DEV-05")
async def test_devices_are_listed_with_what_runs_there(client: httpx.AsyncClient) -> None:
    body = (await client.get("/api/devices")).json()
    (device,) = body["devices"]
    assert (device["name"], device["kind"], device["engines"]) == ("A card", "cuda", {"llama.cpp": "CUDA0"})
    assert (device["total"], device["free"], device["models"]) == (8000 << 20, 7000 << 20, [])
    assert "warnings" not in await generate(client, prompt="hi")
    (device,) = (await client.get("/api/devices")).json()["devices"]
    (model,) = device["models"]
    assert (model["name"], model["layers"]) == ("zoo-think:latest", 5)
    (loaded,) = (await client.get("/api/ps?verbose=1")).json()["models"]
    assert (loaded["num_layers"], loaded["num_gpu"]) == (5, 5)
    assert [each["name"] for each in loaded["devices"]] == ["A card"]
    assert loaded["size"] == loaded["size_vram"] == sum(loaded["devices"][0][part] for part in ("weights", "cache", "compute"))


@pytest.mark.req("DEV-06")
@pytest.mark.parametrize("listing", [SMALL])
async def test_a_model_on_the_cpu_beside_a_device_says_so_in_the_load_and_in_the_first_answer(
    client: httpx.AsyncClient,
) -> None:
    for fields, is_told in (({}, True), ({"prompt": "hi"}, True), ({"prompt": "hi"}, False)):
        answer = await generate(client, **fields)
        assert ("warnings" in answer) is is_told
        assert not is_told or "on the CPU: it needs " in str(answer["warnings"])
    (loaded,) = (await client.get("/api/ps")).json()["models"]
    assert loaded["size_vram"] < loaded["size"]


@pytest.mark.req("DEV-09")
async def test_metrics_tell_the_memory_of_devices_and_the_layers_there(client: httpx.AsyncClient) -> None:
    await generate(client, prompt="hi")
    families = list(text_string_to_metric_families((await client.get("/metrics")).text))
    found = {sample.name: (sample.labels, sample.value) for family in families for sample in family.samples}
    device, model = {"device": "CUDA0 A card"}, {"model": "zoo-think:latest"}
    assert found["serow_device_memory_bytes"] == (device, 8000 << 20)
    assert found["serow_device_free_bytes"] == (device, 7000 << 20)
    assert found["serow_model_offloaded_layers"] == (model, 5)
    assert found["serow_device_model_bytes"][0] == device | model


@pytest.mark.req("DEV-03")
async def test_a_main_gpu_that_is_not_there_is_refused_in_words(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/generate", json={"model": "zoo-think", "prompt": "hi", "options": {"main_gpu": 3}})
    assert answer.status_code == 400
    assert answer.json() == {"error": 'option "main_gpu" is 3, there is no such device: 0 is A card'}
    assert await generate(client, prompt="hi", options={"num_gpu": 10**9})
