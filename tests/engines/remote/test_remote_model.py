"""A model at an engine's address through the whole server, with an engine that computes nothing."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from serow.engines.remote.vocabulary import CLIENT, Vocabulary
from serow.settings import Settings
from tests.support import vllm
from tests.support.server import Running, running, until
from tests.support.vllm import FakeVllm, fake_vllm

pytest.importorskip("tokenizers", reason="the extra serow[remote] is not installed")

_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="


class Door:
    """A server before one engine."""

    def __init__(self, server: Running, engine: FakeVllm, folder: Path) -> None:
        self.server = server
        self.engine = engine
        self.folder = folder

    async def create(self, host: str = "", name: str = "m", **fields: Any) -> tuple[int, str]:
        """Make a model at the engine's address; the status and the text of the answer."""
        files = {}
        for path in sorted(self.folder.iterdir()):
            data = path.read_bytes()
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            async with self.server.session.post(f"/api/blobs/{digest}", data=data) as response:
                assert response.status in (200, 201)
            files[path.name] = digest
        body = {"model": name, "files": files, "remote_host": host or self.engine.host, "remote_model": vllm.MODEL, **fields}
        return await self.text("/api/create", {**body, "stream": False})

    async def text(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        async with asyncio.timeout(20), self.server.session.post(path, json=body) as response:
            return response.status, await response.text()

    async def generate(self, **fields: Any) -> dict[str, Any]:
        status, text = await self.text("/api/generate", {"model": "m", "stream": False, **fields})
        assert status == 200, text
        found: dict[str, Any] = json.loads(text)
        return found

    async def chat(self, **fields: Any) -> dict[str, Any]:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False, **fields}
        status, text = await self.text("/api/chat", body)
        assert status == 200, text
        found: dict[str, Any] = json.loads(text)
        return found


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(fake_vllm())
        server = await stack.enter_async_context(running(Settings(models=tmp_path / "models")))
        found = Door(server, engine, vllm.write_folder(tmp_path / "folder"))
        assert (await found.create())[0] == 200
        yield found


@pytest.mark.req("REM-02")
async def test_a_conversation_is_rendered_and_tokenized_here(door: Door) -> None:
    found = await door.chat()
    assert found["message"]["content"] == "Hello"
    assert (found["done_reason"], found["eval_count"], found["prompt_eval_count"]) == ("stop", 5, len(_hi()))
    (asked,) = door.engine.requests
    assert asked["prompt"] == _hi()
    assert asked["max_tokens"] == 256 - len(_hi())


def _hi() -> list[int]:
    return vllm.ids("<|start|>user\nhi<|end|>\n<|start|>assistant\n")


@pytest.mark.req("REM-02")
async def test_every_dialect_says_the_same(door: Door) -> None:
    messages = [{"role": "user", "content": "hi"}]
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": messages},
        "/v1/responses": {"input": "hi"},
        "/v1/messages": {"messages": messages, "max_tokens": 50},
    }
    for path, body in bodies.items():
        status, text = await door.text(path, {"model": "m", **body})
        assert status == 200, text
        assert "Hello" in text
    assert [request["prompt"] for request in door.engine.requests] == [_hi()] * 3


@pytest.mark.req("REM-03")
async def test_thinking_is_split_and_log_probabilities_have_true_bytes(door: Door) -> None:
    vllm.write_folder(door.folder, chat_template=f"{vllm.TEMPLATE}{{# enable_thinking <think></think> #}}")
    await door.create(name="thinker")
    door.engine.script = ("<think>", "hm", "</think>", "é", "<|end|>")
    found = await door.chat(model="thinker", logprobs=True, top_logprobs=1)
    assert found["message"] == {"role": "assistant", "content": "é", "thinking": "hm"}
    assert [each["bytes"] for each in found["logprobs"]][-2:] == [[0xC3], [0xA9]]


@pytest.mark.req("REM-03")
async def test_a_format_goes_along_as_a_grammar_and_is_checked(door: Door) -> None:
    door.engine.script = ('{"a":', " 1}")
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    found = await door.generate(prompt="x", format=schema)
    assert json.loads(found["response"]) == {"a": 1}
    assert "grammar" in door.engine.requests[-1]["structured_outputs"]


@pytest.mark.req("REM-04")
async def test_what_the_engine_can_t_have_is_said(door: Door) -> None:
    options = {"typical_p": 0.5, "mirostat": 1, "num_gpu": 1, "deterministic": True}
    found = await door.generate(prompt="x", keep_alive="5m", options=options)
    told = "\n".join(found["warnings"])
    for name in (*options, "keep_alive"):
        assert f'"{name}" was ignored' in told
    status, text = await door.text("/api/generate", {"model": "m", "prompt": "x", "options": {"num_ctx": 100_000}})
    assert (status, "holds 256 tokens" in text) == (400, True)
    found = await door.generate(keep_alive=0)
    assert (found["done_reason"], "not unloaded" in found["warnings"][0]) == ("unload", True)


@pytest.mark.req("REM-04")
async def test_pictures_are_refused_in_words_by_every_dialect(door: Door) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PNG}"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, picture]}]
    for path, body in (("/api/generate", {"prompt": "x", "images": [_PNG]}), ("/v1/chat/completions", {"messages": messages})):
        status, text = await door.text(path, {"model": "m", **body})
        assert (status, "does not support" in text) == (400, True), text
    assert door.engine.requests == []


@pytest.mark.req("REM-06")
async def test_texts_are_tokenized_in_the_turn_of_the_client_that_asks(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = []
    encode = Vocabulary.encode

    async def told(vocabulary: Vocabulary, text: str, *, add_special: bool) -> list[int]:
        clients.append(CLIENT.get())
        return await encode(vocabulary, text, add_special=add_special)

    monkeypatch.setattr(Vocabulary, "encode", told)
    await door.chat()
    first, *others = clients  # the first is the probe of the load
    assert (first, set(others)) == ("", {"127.0.0.1"})


@pytest.mark.req("REM-06")
async def test_what_the_engine_tells_of_itself_is_shown(door: Door) -> None:
    door.engine.script = ("a", go_on := asyncio.Event())
    async with door.server.post({"model": "m", "prompt": "x"}) as client:
        await client.begins()
        async with door.server.session.get("/api/ps?verbose=1") as response:
            (shown,) = (await response.json())["models"]
        told = ("engine", "address", "healthy", "version", "num_running_there", "num_waiting_there")
        address = door.engine.host.removeprefix("vllm://")
        assert [shown[name] for name in told] == ["remote", address, True, "0.32.0", 1, 2]
        go_on.set()


@pytest.mark.req("REM-05")
async def test_a_client_that_leaves_closes_the_engine_s_connection(door: Door) -> None:
    door.engine.script = ("a", never := asyncio.Event())
    async with door.server.post({"model": "m", "prompt": "x"}) as client:
        await client.begins()
        assert door.engine.num_open == 1
    await until(lambda: door.engine.num_open == 0, deadline=1.0)
    never.set()


@pytest.mark.req("REM-05")
@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (web.json_response({"error": {"message": "too long", "code": 400}}, status=400), 400, "too long"),
        (web.json_response({"error": {"message": "later"}}, status=503, headers={"Retry-After": "7"}), 503, "later"),
        (web.Response(text="<html>hello</html>", content_type="text/html"), 500, "web page"),
        (web.Response(status=302, headers={"Location": "http://example.org/"}), 500, "elsewhere"),
        (web.Response(status=401), 500, "refuses our key"),
        (web.Response(text="data: " + "x" * (2 << 20), content_type="text/event-stream"), 500, "too long"),
        (web.Response(text='data: {"error": {"message": "boom"}}\n\n', content_type="text/event-stream"), 500, "boom"),
        (web.Response(text='data: {"choices": []}\n\n', content_type="text/event-stream"), 502, "broke off"),
    ],
    ids=["400", "503", "html", "redirect", "key", "long", "error", "cut"],
)
async def test_an_engine_that_refuses_or_misbehaves_is_told_in_words(
    door: Door, answer: web.Response, status: int, words: str
) -> None:
    door.engine.answer = answer
    async with door.server.session.post("/api/generate", json={"model": "m", "prompt": "x", "stream": False}) as response:
        text = await response.text()
        assert (response.status, words in text) == (status, True), text
        if status == 503:
            assert response.headers["Retry-After"] == "7"


@pytest.mark.req("REM-05")
async def test_a_dead_engine_is_a_502_and_the_next_request_tries_again(tmp_path: Path) -> None:
    async with running(Settings(models=tmp_path / "models")) as server, fake_vllm() as engine:
        door = Door(server, engine, vllm.write_folder(tmp_path / "folder"))
        async with fake_vllm() as gone:
            assert (await door.create(f"{gone.host}"))[0] == 200
            assert (await door.generate(prompt="x"))["response"] == "Hello"
        status, text = await door.text("/api/generate", {"model": "m", "prompt": "x"})
        assert (status, "does not answer" in text) == (502, True), text
        assert (await door.create(f"{gone.host},{engine.host.removeprefix('vllm://')}"))[0] == 200
        assert (await door.generate(prompt="x"))["response"] == "Hello"


@pytest.mark.req("REM-01")
async def test_an_engine_with_another_tokenizer_or_without_the_model_is_refused(door: Door) -> None:
    door.engine.shift = 1
    status, text = await door.text("/api/generate", {"model": "m", "prompt": "x"})
    assert (status, "another tokenizer" in text) == (500, True), text
    door.engine.shift = 0
    assert (await door.create(remote_model="other"))[0] == 200
    status, text = await door.text("/api/generate", {"model": "m", "prompt": "x"})
    assert (status, "has no model 'other'" in text) == (400, True), text


@pytest.mark.req("REM-01")
async def test_a_model_at_an_address_is_refused_when_it_is_made_wrong(door: Door) -> None:
    for host in ("vllm://gpu.example:8000", "http://127.0.0.1", "vllm://u:p@127.0.0.1"):
        assert (await door.create(host, "n"))[0] == 400
    wrong: list[dict[str, Any]] = [{"files": {}}, {"from": "m"}, {"quantize": "Q8_0"}, {"remote_model": ""}]
    for fields in wrong:
        assert (await door.create(name="n", **fields))[0] == 400
    assert (await door.text("/api/show", {"model": "n"}))[0] == 404


@pytest.mark.req("REM-01")
async def test_show_and_the_list_tell_where_a_model_is(door: Door) -> None:
    _, text = await door.text("/api/show", {"model": "m"})
    shown = json.loads(text)
    assert (shown["remote_host"], shown["remote_model"]) == (door.engine.host, vllm.MODEL)
    assert "completion" in shown["capabilities"]
    async with door.server.session.get("/api/tags") as response:
        (listed,) = (await response.json())["models"]
    assert listed["remote_host"] == door.engine.host


@pytest.mark.req("REM-06")
async def test_a_model_at_an_address_takes_no_memory_and_is_shown_while_it_runs(door: Door) -> None:
    door.engine.script = ("a", go_on := asyncio.Event(), "b")
    async with door.server.post({"model": "m", "prompt": "x"}) as client:
        await client.begins()
        async with door.server.session.get("/api/ps") as response:
            (shown,) = (await response.json())["models"]
        assert (shown["size"], shown["size_vram"]) == (0, 0)
        go_on.set()
        status, records = await client.answer()
        assert (status, "".join(each["response"] for each in records)) == (200, "ab")
    async with door.server.session.get("/api/ps") as response:
        assert (await response.json())["models"] == []


@pytest.mark.req("REM-06")
async def test_many_requests_run_at_once_at_an_address(door: Door) -> None:
    door.engine.script = ("a", go_on := asyncio.Event())
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(door.server.post({"model": "m", "prompt": "x"})) for _ in range(40)]
        await until(lambda: door.engine.num_open == 40)
        go_on.set()
        assert {status for status, _ in [await client.answer() for client in clients]} == {200}


@pytest.mark.req("REM-02")
async def test_embeddings_come_from_the_engine(door: Door) -> None:
    status, text = await door.text("/api/embed", {"model": "m", "input": ["ab", "c"]})
    assert status == 200, text
    assert [len(vector) for vector in json.loads(text)["embeddings"]] == [2, 2]
