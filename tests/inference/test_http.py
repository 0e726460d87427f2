"""The flow behind HTTP with an engine that computes nothing: what only a connection shows."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from serow.errors import EngineDied
from serow.settings import Settings
from tests.support.engine import FakeEngine, starting
from tests.support.server import Running, running


@pytest_asyncio.fixture
async def server(models: Path) -> AsyncIterator[Running]:
    """A server whose zoo-think says "a" and dies, and whose zoo-vision says "Hello"."""
    start = starting(
        zoo_think=FakeEngine(["a", EngineDied("the engine ended with signal 9")]), zoo_vision=FakeEngine(["Hel", "lo"])
    )
    async with running(Settings(models=models), start) as started:
        yield started


async def test_a_stream_is_lines_of_json(server: Running) -> None:
    async with server.session.post("/api/generate", json={"model": "zoo-vision", "prompt": "Hi"}) as answer:
        records = [json.loads(line) async for line in answer.content]
    assert answer.content_type == "application/x-ndjson"
    assert [record["response"] for record in records] == ["Hel", "lo", ""] and records[-1]["done"]


async def test_an_error_in_the_middle_is_the_last_line(server: Running) -> None:
    async with server.session.post("/api/generate", json={"model": "zoo-think", "prompt": "Hi"}) as answer:
        *_, last = [json.loads(line) async for line in answer.content]
    assert answer.status == 200 and last == {"error": "the engine ended with signal 9"}


async def test_an_error_before_the_first_token_has_its_status(server: Running) -> None:
    body = {"model": "zoo-think", "prompt": "Hi", "stream": False}
    async with server.session.post("/api/generate", json=body) as answer:
        assert (answer.status, await answer.json()) == (500, {"error": "the engine ended with signal 9"})
