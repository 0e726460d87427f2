"""What real programs asked for, asked again of an engine that computes nothing: the status they got, and the shape they read.

The requests are those that `SEROW_RECORD_CLIENTS=1` kept while the programs ran (`kept/*.jsonl`).
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from serow.engines.base import CompletionRequest
from serow.settings import Settings
from serow.store.store import Store
from tests.compat.clients.kept import KEPT
from tests.conftest import create
from tests.output.families import speaking
from tests.support.engine import Piece, text_of
from tests.support.server import Running, running
from tests.wire.streams import data_of

PROGRAMS = sorted(path.stem for path in KEPT.glob("*.jsonl"))
OPENING, CLOSING, RESULT = "<tool_call>", "\n</tool_call>", "<tool_response>"
OURS = re.compile(rb'"id":\s*"((resp|rs|fc|msg)_\w+)"')  # identifiers that a later request names
FINISHES = {"stop", "length", "tool_calls"}
USAGE = ("input_tokens", "output_tokens")

Check = Callable[[Any], bool]


def says(request: CompletionRequest) -> Sequence[Piece]:
    """A call where tools are and no result is, JSON where a schema is, else a thought and a text."""
    prompt = text_of(request.prompt)
    if tool := re.search(r'"const": "(\w+)"', request.grammar or ""):
        return ["\n" + json.dumps({"name": tool[1], "arguments": {"a": 1, "b": 2}})]
    if request.grammar:
        return ['{"a": 1, "b": 2}']
    if prompt.endswith("}"):
        return [CLOSING]
    return [OPENING] if OPENING in request.options.stop and RESULT not in prompt else ["<think>", "Hm", "</think>", "Hel", "lo"]


@pytest_asyncio.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory, zoo: Path) -> AsyncIterator[Running]:
    """A server with a store of its own: programs make and delete models."""
    root = tmp_path_factory.mktemp("kept")
    for name in ("zoo-think", "smollm2:135m"):
        create(Store(root), name, zoo / "zoo-think.gguf")
    create(Store(root), "zoo-vision", zoo / "zoo-vision.gguf", zoo / "zoo-vision-mmproj.gguf")
    engine = speaking(says)
    engine.num_ctx = 1 << 20
    async with running(Settings(models=root, offline=True), lambda _: engine) as started:
        yield started


def has(*names: str) -> Check:
    """Whether an object has these fields, none of them null."""
    return lambda value: all(value.get(name) is not None for name in names)


def is_chat_record(record: Any) -> bool:
    return has("model", "created_at", "message")(record) and has("role", "content")(record["message"])


def is_choice(body: Any) -> bool:
    """An answer of chat completions or completions."""
    return has("id", "object", "created", "model", "usage")(body) and body["choices"][0]["finish_reason"] in FINISHES


def is_message(body: Any) -> bool:
    return has("id", "type", "role", "model", "content", "stop_reason", "usage")(body) and has(*USAGE)(body["usage"])


WHOLE: dict[str, Check] = {
    "/api/chat": lambda body: is_chat_record(body) and body["done"] is True,
    "/api/generate": has("model", "created_at", "response", "done"),
    "/api/embed": has("model", "embeddings"),
    "/api/embeddings": has("embedding"),
    "/api/show": has("details", "model_info", "capabilities", "template", "modified_at"),
    "/api/tags": has("models"),
    "/api/ps": has("models"),
    "/api/version": has("version"),
    "/v1/chat/completions": is_choice,
    "/v1/completions": is_choice,
    "/v1/embeddings": lambda body: body["object"] == "list" and has("embedding", "index")(body["data"][0]),
    "/v1/models": has("data"),
    "/v1/models/zoo-think": has("id", "object", "created", "owned_by"),
    "/v1/responses": lambda body: has("id", "created_at", "output", "usage")(body) and body["status"] == "completed",
    "/v1/responses/resp_recorded": has("id"),
    "/v1/messages": is_message,
    "/v1/messages/count_tokens": has("input_tokens"),
}
RECORDS: dict[str, Check] = {
    "/api/chat": is_chat_record,
    "/api/generate": has("model", "created_at", "response"),
    "/api/create": has("status"),
    "/api/pull": lambda record: "status" in record or "error" in record,
}
ENDS: dict[str, Check] = {
    "/v1/chat/completions": lambda event: event == "[DONE]",
    "/v1/completions": lambda event: event == "[DONE]",
    "/v1/responses": lambda event: event["type"] == "response.completed" and event["response"]["status"] == "completed",
    "/v1/messages": lambda event: event["type"] == "message_stop",
}


def is_error(path: str, body: Any) -> bool:
    """An error in the words of the API whose path it is."""
    if path.startswith("/api"):
        return isinstance(body["error"], str)
    error = has("type", "message")(body["error"])
    return error and (body["type"] == "error" if path.startswith("/v1/messages") else {"param", "code"} <= body["error"].keys())


def has_shape(path: str, content_type: str, body: bytes) -> bool:
    """Whether a program can read the answer of a path."""
    match content_type.partition(";")[0]:
        case "application/x-ndjson":
            *records, last = [json.loads(line) for line in body.splitlines()]
            return all(map(RECORDS[path], (*records, last))) and last.get(
                "done", "error" in last or last.get("status") == "success"
            )
        case "text/event-stream":
            *events, last = data_of(body)
            return bool(events) and ENDS[path](last)
        case "application/json":
            return WHOLE[path](json.loads(body))
    return body == b""


@pytest.mark.req("GEN-01", "OAI-01", "OAI-02", "OAI-08", "OAI-09", "RESP-05", "RESP-06", "ANT-01", "ANT-02", "ANT-08", "ANT-09")
@pytest.mark.parametrize("program", PROGRAMS)
async def test_what_a_program_asked_for_is_answered_as_then(server: Running, program: str) -> None:
    ours: dict[str, str] = {}
    for line in (KEPT / f"{program}.jsonl").read_text().removesuffix("\n").split("\n"):
        asked = json.loads(re.sub(r"\b(\w+_)recorded\b", lambda found: ours.get(found[1], found[0]), line))
        path = json.loads(line)["path"].partition("?")[0]
        data = json.dumps(asked["body"]) if "body" in asked else None
        async with server.session.request(asked["method"], asked["path"], data=data, headers=asked["headers"]) as answer:
            body, content_type = await answer.read(), answer.headers.get("content-type", "")
        assert answer.status == asked["status"], (line[:500], body[:500])
        if answer.status >= 400:
            assert is_error(path, json.loads(body)), (path, body[:500])
        else:
            assert has_shape(path, content_type, body), (path, body[:500])
        ours.update({kind.decode() + "_": ident.decode() for ident, kind in OURS.findall(body)})


def test_what_is_kept_is_small_and_tells_no_key() -> None:
    for path in KEPT.iterdir():
        text = path.read_text()
        assert len(text) < 20_000, path
        assert not re.search(r"Bearer (?!x\b)|sk-\w|/home/|/root/|/tmp/", text), path
