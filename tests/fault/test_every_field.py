"""Every field of every route with every value that nobody would send: the fault is the client's, never ours.

The engine is one that computes nothing, so what fails here fails before it or behind it. `bench/fuzz.py` asks real ones.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from serow.server.app import create_app
from serow.server.openapi import document
from serow.server.operation import Operation
from serow.server.routes import OPERATIONS
from serow.settings import Settings
from serow.store.store import Store
from tests.conftest import create
from tests.support.engine import FakeEngine, starting
from tests.support.hostile import VALUES, places, with_value
from tests.support.samples import SAMPLES

DOCUMENT = document(OPERATIONS)
FETCHING = ("/api/pull", "/api/push")  # what is not there may be said with a 500, as the peer does
with_body = [operation for operation in OPERATIONS if operation.body is not None or operation.path in SAMPLES]


@pytest.fixture
async def client(tmp_path: Path, zoo: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server whose engine says two words to everything."""
    store = Store(tmp_path / "models")
    create(store, "zoo-think", zoo / "zoo-think.gguf")
    settings = Settings(models=store.root, slots=tmp_path / "slots", slot_cache=0)
    app = create_app(settings, starting(zoo_think=FakeEngine(["one", " two"])))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client,
    ):
        yield client


def bodies(operation: Operation) -> dict[str, bytes]:
    """A body for each field that the document or the sample has, with each value in it."""
    sample = SAMPLES.get(operation.path, {})
    found = list(places(sample))
    if operation.body is not None:
        declared = DOCUMENT["components"]["schemas"][operation.body.__name__]["properties"]
        found += [(name,) for name in declared if (name,) not in found]
        if "options" in declared:
            found += [("options", name) for name in DOCUMENT["components"]["schemas"]["Options"]["properties"]]
    return {f"{path} {name}": with_value(sample, path, text) for path in found for name, text in VALUES.items()}


def fault_of(operation: Operation, answer: httpx.Response) -> str:
    """What is wrong with an answer, "" for nothing."""
    if "internal error" in answer.text:
        return answer.text
    if answer.status_code < 500:
        return ""
    is_known = operation.path in FETCHING and answer.json()["error"]
    return "" if is_known else f"{answer.status_code} {answer.text[:200]}"


def test_every_route_with_a_body_has_a_sample() -> None:
    assert {operation.path for operation in OPERATIONS if operation.body is not None} <= SAMPLES.keys()


@pytest.mark.req("RES-05")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("operation", with_body, ids=[operation.path for operation in with_body])
async def test_no_value_of_any_field_finds_a_fault_of_ours(client: httpx.AsyncClient, operation: Operation) -> None:
    faults = {}
    for name, body in bodies(operation).items():
        answer = await client.request(operation.method, operation.path, content=body)
        if fault := fault_of(operation, answer):
            faults[name] = fault
    assert not faults, json.dumps(faults, indent=1)[:5000]
