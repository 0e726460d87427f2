"""Paths and methods that there are not: JSON in the API's words, and the path that was meant (OAI-02, OAI-03, ANT-02)."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from serow.server.app import create_app
from serow.server.wrong_paths import intended
from serow.settings import Settings

KNOWN = {"/v1/chat/completions", "/v1/messages", "/v1/models", "/v1/embeddings", "/api/chat", "/api/tags"}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(models=tmp_path))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        yield client


@pytest.mark.req("OAI-03", "ANT-02")
@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/api/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
        ("/v1/api/tags", "/api/tags"),
        ("/v1/tags", "/api/tags"),
        ("/models", "/v1/models"),
        ("/v1/Chat/Completions", "/v1/chat/completions"),
        ("/API/chat", "/api/chat"),
        ("/OpenAI/V1/Models", "/v1/models"),
        ("/v1/nope", ""),
        ("/", ""),
        ("/favicon.ico", ""),
        ("/v1/chat/completions", ""),
    ],
)
def test_the_path_that_was_meant_is_found(path: str, meant: str) -> None:
    assert intended(path, KNOWN) == meant


@pytest.mark.req("OAI-03", "ANT-02")
async def test_a_wrong_base_url_is_told_in_the_words_of_the_api_that_was_meant(client: httpx.AsyncClient) -> None:
    answer = await client.post("/embeddings", json={})
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
    assert "hint: the path is /v1/embeddings" in answer.json()["error"]["message"]
    answer = await client.post("/api/Chat", json={})
    assert answer.json()["error"].endswith("hint: the path is /api/chat: small letters are others than capitals")
    answer = await client.get("/v1/v1/models", headers={"anthropic-version": "2023-06-01"})
    assert (answer.status_code, answer.json()["type"]) == (404, "error")
    answer = await client.get("/v1/api/tags")
    assert (answer.status_code, "/api/tags" in answer.json()["error"]) == (404, True)


@pytest.mark.req("OAI-02", "OAI-03")
@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nope", 404), ("PATCH", "/v1/models", 405)])
async def test_under_v1_every_error_is_json_with_an_id(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await client.request(method, path, headers={"x-request-id": "abc"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json; charset=utf-8")
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert (answer.headers["x-request-id"], answer.headers["request-id"]) == ("abc", "abc")


@pytest.mark.req("RES-05")
async def test_under_api_a_client_that_reads_json_gets_it_and_others_what_the_peer_sends(client: httpx.AsyncClient) -> None:
    for method, path, status in (("GET", "/api/nope", 404), ("PUT", "/api/generate", 405)):
        answer = await client.request(method, path, headers={"Accept": "*/*"})
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json; charset=utf-8")
        assert answer.json()["error"].startswith(str(status))
        request = client.build_request(method, path)
        del request.headers["accept"]
        answer = await client.send(request)
        assert answer.headers["content-type"].startswith("text/plain")
    assert (await client.get("/nope")).text == "404 page not found"


@pytest.mark.req("OAI-02", "ANT-02")
async def test_slashes_that_are_one_leave_an_error_in_the_shape_of_its_api(client: httpx.AsyncClient) -> None:
    answer = await client.post("http://localhost//v1/chat/completions", json={})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")
    answer = await client.post("http://localhost//v1/messages", json={})
    assert (answer.status_code, answer.json()["type"]) == (400, "error")
