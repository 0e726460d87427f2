"""OpenAI's and Anthropic's routes behind HTTP, with an engine that says what is written for it."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from serow.errors import EngineDied
from serow.server import streaming
from serow.settings import Settings
from serow.store.store import Store
from tests.pictures import SHAPES, create_pipeline, needs_packages
from tests.support import engine
from tests.support.engine import FakeEngine, FakePainter, starting
from tests.support.server import Running, running
from tests.wire.streams import data_of

DEADLINE = 20.0  # seconds
DIED = EngineDied("the engine ended with signal 9")
SAID = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "zoo-vision", "messages": SAID},
    "/v1/completions": {"model": "zoo-vision", "prompt": "Hi"},
    "/v1/responses": {"model": "zoo-vision", "input": "Hi"},
    "/v1/messages": {"model": "zoo-vision", "messages": SAID, "max_tokens": 50},
}


@asynccontextmanager
async def serving(models: Path, speaker: FakeEngine) -> AsyncIterator[Running]:
    async with running(Settings(models=models), starting(zoo_vision=speaker)) as server:
        yield server


async def post(server: Running, path: str, **fields: Any) -> tuple[int, bytes, Any]:
    async with asyncio.timeout(DEADLINE), server.session.post(path, json={**BODIES[path], **fields}) as answer:
        return answer.status, await answer.read(), answer.headers


def text_of(path: str, body: Any) -> str:
    """The text of a whole answer."""
    if path == "/v1/messages":
        return str(body["content"][0]["text"])
    if path == "/v1/responses":
        return str(body["output"][0]["content"][0]["text"])
    choice = body["choices"][0]
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


@pytest.mark.req("OAI-08", "OAI-16", "RESP-05", "ANT-08")
@pytest.mark.parametrize("path", BODIES)
async def test_every_dialect_tells_the_same_text(models: Path, path: str) -> None:
    async with serving(models, FakeEngine(["Hel", "lo"])) as server:
        status, body, headers = await post(server, path)
    assert (status, text_of(path, json.loads(body))) == (200, "Hello")
    assert headers["x-request-id"] == headers["request-id"]


@pytest.mark.req("OAI-09", "RESP-06", "ANT-09")
@pytest.mark.parametrize(
    ("path", "end"),
    [
        ("/v1/chat/completions", ("error", "message")),
        ("/v1/completions", ("error", "message")),
        ("/v1/responses", ("response", "error", "message")),
        ("/v1/messages", ("error", "message")),
    ],
)
async def test_a_stream_whose_engine_dies_stays_well_formed_and_ends_with_the_error(
    models: Path, path: str, end: tuple[str, ...]
) -> None:
    async with serving(models, FakeEngine(["a", DIED])) as server:
        status, body, headers = await post(server, path, stream=True)
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "text/event-stream", "no-cache")
    value: Any = data_of(body)[-1]
    assert value.get("type") in (None, "error", "response.failed")
    for key in end:
        value = value[key]
    assert value == "the engine ended with signal 9"


@pytest.mark.req("OAI-02", "ANT-02")
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_dies_before_the_first_token_is_a_status(models: Path, path: str, stream: bool) -> None:
    async with serving(models, FakeEngine([DIED])) as server:
        status, body, _ = await post(server, path, stream=stream)
    assert (status, json.loads(body)["error"]["message"]) == (500, "the engine ended with signal 9")


@pytest.mark.req("OAI-09", "RESP-06", "ANT-09")
@pytest.mark.parametrize("path", BODIES)
async def test_a_silent_stream_says_that_it_lives(models: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SILENCE", 0.05)
    goes_on = asyncio.Event()
    received = b""
    async with (
        serving(models, FakeEngine([goes_on, "Hello"])) as server,
        asyncio.timeout(DEADLINE),
        server.session.post(path, json={**BODIES[path], "stream": True}) as answer,
    ):
        async for piece in answer.content.iter_any():
            received += piece
            if received.count(b"ping") + received.count(b"event: response.in_progress") >= 3:
                goes_on.set()
    assert b"Hello" in received
    assert data_of(received)


@pytest.mark.req("OAI-07")
async def test_choices_share_one_prompt_and_come_apart_by_index(models: Path) -> None:
    async with serving(models, FakeEngine(["a", "b"])) as server:
        _, whole, _ = await post(server, "/v1/chat/completions", n=3)
        _, stream, _ = await post(server, "/v1/chat/completions", n=3, stream=True)
    answer = json.loads(whole)
    assert [each["message"]["content"] for each in answer["choices"]] == ["ab"] * 3
    assert answer["usage"]["prompt_tokens"] == len("[user]Hi\n[assistant]")
    chunks = data_of(stream)[:-1]
    assert {each["choices"][0]["index"] for each in chunks} == {0, 1, 2}


@pytest.mark.req("OAI-02", "OAI-07", "ANT-05")
async def test_a_prompt_that_is_too_long_is_refused_before_the_first_byte(models: Path) -> None:
    long = [{"role": "user", "content": "x" * 5000}]
    async with serving(models, FakeEngine(["a"], num_ctx=512)) as server:
        status, body, _ = await post(server, "/v1/chat/completions", messages=long, stream=True)
        error = json.loads(body)["error"]
        assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
        status, body, _ = await post(server, "/v1/messages", messages=long, stream=True)
        assert json.loads(body)["error"]["message"].startswith("prompt is too long: 50")
        status, body, _ = await post(server, "/v1/responses", input="x" * 5000)
        assert json.loads(body)["error"]["param"] == "input"


@pytest.mark.req("RESP-07")
async def test_a_response_is_kept_followed_and_forgotten(models: Path) -> None:
    async with serving(models, FakeEngine(["Hello"])) as server:
        first = json.loads((await post(server, "/v1/responses", stream=False))[1])
        streamed = data_of((await post(server, "/v1/responses", stream=True, previous_response_id=first["id"]))[1])
        for ident in (first["id"], streamed[-1]["response"]["id"]):
            async with server.session.get(f"/v1/responses/{ident}") as answer:
                assert (await answer.json())["output"][0]["content"][0]["text"] == "Hello"
        async with server.session.delete(f"/v1/responses/{first['id']}") as answer:
            assert (await answer.json())["deleted"]
        async with server.session.get(f"/v1/responses/{first['id']}") as answer:
            assert (answer.status, (await answer.json())["error"]["type"]) == (404, "not_found_error")
        unkept = json.loads((await post(server, "/v1/responses", store=False))[1])
        status, body, _ = await post(server, "/v1/responses", previous_response_id=unkept["id"])
        assert (status, json.loads(body)["error"]["code"]) == (400, "previous_response_not_found")


@pytest.mark.req("OAI-03", "IMG-01")
async def test_a_model_that_is_not_for_this_is_refused(models: Path) -> None:
    async with (
        serving(models, FakeEngine(["a"])) as server,
        server.session.post("/v1/images/generations", json={"model": "zoo-vision", "prompt": "x"}) as answer,
    ):
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, "model")


@needs_packages
@pytest.mark.req("IMG-01", "IMG-02")
async def test_pictures_come_as_base64_in_the_format_that_was_asked_for(
    tmp_path: Path, png: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PNG", base64.b64decode(png))
    create_pipeline(Store(tmp_path), "shapes", SHAPES)
    form = aiohttp.FormData({"model": "shapes", "prompt": "a blue square"})
    form.add_field("image", base64.b64decode(png), filename="a.png", content_type="image/png")
    async with running(Settings(models=tmp_path), starting(shapes=FakePainter())) as server:
        body = {"model": "shapes", "prompt": "a red square", "n": 2, "output_format": "jpeg"}
        async with server.session.post("/v1/images/generations", json=body) as answer:
            drawn = [base64.b64decode(each["b64_json"])[:2] for each in (await answer.json())["data"]]
        async with server.session.post("/v1/images/edits", data=form) as answer:
            edited = (await answer.json())["data"]
        async with server.session.post("/v1/images/generations", json={**body, "stream": True}) as answer:
            events = data_of(await answer.read())
        async with server.session.post("/v1/chat/completions", json={"model": "shapes", "messages": SAID}) as answer:
            assert answer.status == 400
    assert (drawn, edited) == ([b"\xff\xd8"] * 2, [{"b64_json": png}])
    assert [each["type"] for each in events] == ["image_generation.completed"] * 2
