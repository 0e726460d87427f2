import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serow.engines.llamacpp.spec import physical_cores
from serow.errors import StoreError
from serow.server.app import create_app
from serow.settings import Settings
from serow.store.show import show
from serow.store.store import Store
from tests.conftest import create

HELLO = f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
NOTHING = "sha256:" + "0" * 64
DEADLINE = 60  # seconds


@pytest.fixture
async def client(tmp_path: Path, zoo: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application whose store holds zoo-think."""
    create(Store(tmp_path), "zoo-think", zoo / "zoo-think.gguf")
    app = create_app(Settings(models=tmp_path))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=DEADLINE) as client,
    ):
        yield client


async def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


async def names(client: httpx.AsyncClient) -> list[str]:
    return sorted(model["name"] for model in (await client.get("/api/tags")).json()["models"])


async def test_tags_tell_what_a_model_is(client: httpx.AsyncClient) -> None:
    (model,) = (await client.get("/api/tags")).json()["models"]
    assert model["name"] == model["model"] == "zoo-think:latest"
    assert model["size"] == 2196288 + 149
    assert model["modified_at"].endswith("Z") and "." in model["modified_at"]
    assert model["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "qwen3",
        "families": ["qwen3"],
        "parameter_size": "1.08M",
        "quantization_level": "F16",
        "context_length": 2048,
        "embedding_length": 128,
    }
    assert model["capabilities"] == ["tools", "thinking", "completion"]


@pytest.mark.req("LIB-30", "LIB-37")
async def test_tags_tell_the_lengths_that_info_has_said(client: httpx.AsyncClient) -> None:
    body = {"model": "said", "from": "zoo-think", "info": {"context_length": 99, "embedding_length": 7}, "stream": False}
    assert (await client.post("/api/create", json=body)).json() == {"status": "success"}
    found = {model["name"]: model["details"] for model in (await client.get("/api/tags")).json()["models"]}
    assert (found["said:latest"]["context_length"], found["said:latest"]["embedding_length"]) == (99, 7)
    assert found["zoo-think:latest"]["context_length"] == 2048
    shown = (await client.post("/api/show", json={"model": "said"})).json()
    assert shown["model_info"]["qwen3.context_length"] == 2048


async def test_a_file_is_uploaded_and_becomes_a_model(client: httpx.AsyncClient, zoo: Path) -> None:
    data = (zoo / "zoo-vision.gguf").read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (await client.head(f"/api/blobs/{digest}")).status_code == 404
    assert (await client.post(f"/api/blobs/{digest}", content=data)).status_code == 201
    assert (await client.head(f"/api/blobs/{digest}")).status_code == 200
    answer = await client.post("/api/create", json={"model": "seen", "files": {"zoo-vision.gguf": digest}})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert await lines(answer) == [
        {"status": "parsing GGUF"},
        {"status": f"using existing layer {digest}"},
        {"status": "writing manifest"},
        {"status": "success"},
    ]
    assert await names(client) == ["seen:latest", "zoo-think:latest"]


@pytest.mark.parametrize(
    ("digest", "status", "error"),
    [
        (NOTHING, 400, f'digest mismatch, expected "{NOTHING}", got "{HELLO}"'),
        ("sha256:xyz", 400, "invalid digest format"),
        ("..%2f..%2fx", 404, None),
    ],
)
async def test_an_upload_that_is_not_what_it_says_is_refused(
    client: httpx.AsyncClient, digest: str, status: int, error: str | None
) -> None:
    answer = await client.post(f"/api/blobs/{digest}", content=b"hello")
    assert answer.status_code == status
    assert error is None or answer.json() == {"error": error}
    assert (await client.head(f"/api/blobs/{HELLO}")).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"model": "a b", "from": "zoo-think"}, 400, "invalid model name"),
        ({"model": "x"}, 400, "neither 'from' or 'files' was specified"),
        ({"model": "x", "from": "/nope"}, 400, "invalid model name"),
        ({"model": "x", "from": "zoo-think", "template": "{{ .Prompt"}, 400, "template error: template: :1: unclosed action"),
        ({"model": "x", "from": "zoo-think", "parameters": {"nonsense": 1}}, 400, 'unknown parameter "nonsense"'),
        ({"model": "x", "from": "zoo-think", "parameters": {"seed": "1"}}, 400, 'option "seed" must be of type integer'),
        ({"model": "x", "from": "zoo-think", "parameters": 5}, 400, '"parameters" must be an object, not an integer'),
        ({"model": "x", "from": 5}, 400, '"from" must be a string, not an integer'),
        ({"model": "x", "files": {"/a.gguf": NOTHING}}, 400, "file path must be relative"),
    ],
)
async def test_a_recipe_that_cannot_be_followed_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, error: str
) -> None:
    answer = await client.post("/api/create", json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": error})
    assert await names(client) == ["zoo-think:latest"]


@pytest.mark.req("LIB-29")
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("path", "error"), [("a.gguf", "supplied file was not in GGUF format"), ("a.txt", "unknown type")])
async def test_a_file_that_is_no_model_is_refused_before_the_stream(
    client: httpx.AsyncClient, path: str, error: str, stream: bool
) -> None:
    await client.post(f"/api/blobs/{HELLO}", content=b"hello")
    answer = await client.post("/api/create", json={"model": "x", "files": {path: HELLO}, "stream": stream})
    assert (answer.status_code, answer.json()) == (400, {"error": error})


async def test_one_object_when_not_streamed(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/create", json={"model": "made", "from": "zoo-think", "license": ["MIT"], "stream": False})
    assert (answer.headers["content-type"], answer.json()) == ("application/json", {"status": "success"})
    assert (await client.post("/api/show", json={"name": "made"})).json()["license"] == "MIT"


async def test_show_lays_the_request_over_the_model(client: httpx.AsyncClient) -> None:
    found = (await client.post("/api/show", json={"model": "zoo-think", "system": "x", "options": {"top_k": 3}})).json()
    assert found["system"] == "x"
    assert found["modelfile"].endswith("SYSTEM x\nPARAMETER top_k 3\n")


async def test_a_copy_is_made_and_deleted(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/copy", json={"source": "ZOO-think", "destination": "me/copy:v1"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert await names(client) == ["me/copy:v1", "zoo-think:latest"]
    answer = await client.request("DELETE", "/api/delete", json={"model": "me/copy:v1"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert await names(client) == ["zoo-think:latest"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("POST", "show", {"model": "nope"}, 404, "model 'nope:latest' not found"),
        ("POST", "show", {}, 400, "model is required"),
        ("POST", "show", {"model": "a b"}, 400, "invalid model name"),
        ("POST", "copy", {"source": "nope", "destination": "x"}, 404, 'model "nope" not found'),
        ("POST", "copy", {"source": "zoo-think", "destination": "a b"}, 400, 'destination "a b" is invalid'),
        ("POST", "copy", {}, 400, 'source "" is invalid'),
        ("POST", "copy", {"source": "a/" * 400, "destination": "b"}, 400, f'source "{"a/" * 32}…" is invalid'),
        ("DELETE", "delete", {"model": "a/" * 400}, 400, f'name "{"a/" * 32}…" is invalid'),
        ("DELETE", "delete", {"model": "nope"}, 404, "model 'nope' not found"),
        ("DELETE", "delete", {}, 400, "model is required"),
        ("DELETE", "delete", {"model": "../x"}, 400, 'name "../x" is invalid'),
        ("POST", "pull", {"model": "a b"}, 400, "invalid model name"),
        ("POST", "pull", {}, 400, "invalid model name"),
    ],
)
async def test_what_is_not_here_or_malformed_is_told_as_the_peer_tells_it(
    client: httpx.AsyncClient, method: str, path: str, body: dict[str, str], status: int, error: str
) -> None:
    answer = await client.request(method, f"/api/{path}", json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


@pytest.mark.parametrize("path", ["show", "create", "copy", "pull"])
async def test_an_empty_body_is_told(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(f"/api/{path}")
    assert (answer.status_code, answer.json()) == (400, {"error": "missing request body"})


async def test_an_upload_whose_client_leaves_leaves_nothing(tmp_path: Path) -> None:
    app = create_app(Settings(models=tmp_path))
    messages: list[dict[str, Any]] = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"hel", "more_body": True}]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": f"/api/blobs/{HELLO}", "headers": [(b"host", b"localhost")]}
    async with app.router.lifespan_context(app):
        await app({**scope, "query_string": b"", "http_version": "1.1"}, receive, send)
    assert sent[0]["status"] == 499
    assert list((tmp_path / "blobs").iterdir()) == []


async def test_a_body_above_the_limit_is_refused_but_a_blob_is_not(tmp_path: Path) -> None:
    app = create_app(Settings(models=tmp_path, max_body=100))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        assert (await client.post("/api/show", json={"model": "x" * 100})).status_code == 413
        data = b"x" * 1000
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert (await client.post(f"/api/blobs/{digest}", content=data)).status_code == 201


@pytest.mark.req("LIFE-01")
async def test_a_loaded_model_is_listed_and_forgotten_when_it_changes(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/ps")).json() == {"models": []}
    await client.post("/api/generate", json={"model": "zoo-think", "stream": False})
    (loaded,) = (await client.get("/api/ps")).json()["models"]
    assert (loaded["name"], loaded["context_length"]) == ("zoo-think:latest", 2048)
    assert loaded["size"] > 0 and loaded["expires_at"].endswith("Z")
    verbose = (await client.get("/api/ps?verbose=1")).json()
    (model,) = verbose["models"]
    chosen = {"num_parallel": 8, "num_thread": physical_cores(), "num_batch": 64, "flash_attention": "auto", "num_draft": 0}
    assert {name: model[name] for name in model.keys() - loaded.keys()} == {
        "engine": "wheel",
        "num_running": 0,
        "num_waiting": 0,
        "repack": False,
        "draft_model": False,
        "cache_type": "f16",
        "devices": [],
        "num_layers": 5,
        "num_gpu": 0,
        **chosen,
    }
    assert (model["num_running"], model["num_waiting"], verbose["num_waiting"], verbose["max_queue"]) == (0, 0, 0, 512)
    await client.post("/api/create", json={"model": "zoo-think", "from": "zoo-think", "system": "New."})
    assert (await client.get("/api/ps")).json() == {"models": []}


@pytest.mark.parametrize(("agent", "basename"), [("GitHubCopilotChat/0.30.0", "zoo-think"), ("ollama/0.33", None)])
async def test_an_editor_that_shows_the_basename_gets_one(client: httpx.AsyncClient, agent: str, basename: str | None) -> None:
    answer = await client.post("/api/show", json={"model": "zoo-think"}, headers={"User-Agent": agent})
    assert answer.json()["model_info"].get("general.basename") == basename


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/create", {"model": "made", "from": "zoo-think", "stream": False}),
        ("POST", "/api/create", {"model": "made", "from": "zoo-think"}),
        ("POST", "/api/show", {"model": "zoo-think"}),
        ("POST", "/api/copy", {"source": "zoo-think", "destination": "copied"}),
        ("DELETE", "/api/delete", {"model": "zoo-think"}),
    ],
)
async def test_a_field_that_nothing_reads_is_told(
    client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any]
) -> None:
    answer = await client.request(method, path, json={**body, "nonsense": 1})
    assert answer.status_code == 200
    told = answer.headers.get("x-serow-warnings") or (await lines(answer))[-1]["warnings"][0]
    assert told == 'unknown field "nonsense" was ignored'
    plain = await client.request(method, path, json=body)
    assert "x-serow-warnings" not in plain.headers and "warnings" not in plain.text


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("renderer", "qwen3-coder", "renderer: qwen3-coder is kept for Ollama; here templates make the prompts"),
        ("parser", "none-such", "parser: none-such is kept for Ollama and not known here"),
        (
            "draft",
            "zoo-think",
            "draft: used once a check has seen it pay: serow engine build llama.cpp, "
            "then serow engine check llama.cpp with this model",
        ),
    ],
)
async def test_what_is_kept_and_not_used_is_told(client: httpx.AsyncClient, field: str, value: object, told: str) -> None:
    answer = await client.post("/api/create", json={"model": "made", "from": "zoo-think", "stream": False, field: value})
    assert answer.json() == {"status": "success", "warnings": [told]}


async def test_a_model_that_is_made_anew_while_it_is_shown_is_shown_as_it_is_then(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [StoreError("the model store failed: no such file or directory") for _ in range(3)]

    def interrupted(*args: Any, **options: Any) -> Any:
        if faults:
            raise faults.pop()
        return show(*args, **options)

    monkeypatch.setattr("serow.server.handlers.models.show", interrupted)
    assert (await client.post("/api/show", json={"model": "zoo-think"})).status_code == 200
    assert faults == []
    faults += [StoreError("the model store failed: input/output error")] * 4
    assert (await client.post("/api/show", json={"model": "zoo-think"})).status_code == 500
