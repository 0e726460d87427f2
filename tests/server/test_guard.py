import logging
import socket

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from serow.server.guard import Guard


async def hello(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


@pytest.fixture
def client() -> httpx.AsyncClient:
    origins = ("https://notes.example", "chrome-extension://*", "https://*.Example.org")
    app = Guard(Starlette(routes=[Route("/", hello)]), origins, hosts=("models.example", "*.home.arpa"))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:11434")


@pytest.mark.req("RES-05")
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "[::1",
        "127.0.0.1.evil.example:11434",
        "box.local",
        "box.internal",
        "a@localhost",
    ],
)
async def test_a_foreign_host_gets_403_with_an_empty_body(client: httpx.AsyncClient, host: str) -> None:
    answer = await client.get("/", headers={"Host": host})
    assert (answer.status_code, answer.content) == (403, b"")


@pytest.mark.req("RES-05")
@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1:11434",
        "[::1]:11434",
        f"{socket.gethostname()}.local",
        "a.localhost",
        "host.docker.internal",
        "192.168.1.7:11434",
        "LOCALHOST",
        "models.example:443",
        "attic.home.arpa",
    ],
)
async def test_local_names_and_addresses_pass(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/", headers={"Host": host})).text == "hello"


@pytest.mark.req("RES-05")
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "https://localhost.evil.example",
        "ftp://localhost",
        "http://[::1",
        "https://example.org",
        "https://a.example.org.evil.example",
        "https://models.example",
    ],
)
async def test_a_foreign_origin_gets_403_with_an_empty_body(client: httpx.AsyncClient, origin: str) -> None:
    answer = await client.get("/", headers={"Origin": origin})
    assert (answer.status_code, answer.content) == (403, b"")


@pytest.mark.req("RES-05")
@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:3000",
        "https://127.0.0.1",
        "app://x",
        "vscode-webview://y",
        "https://notes.example",
        "chrome-extension://abcdef",
        "https://a.example.org",
    ],
)
async def test_an_allowed_origin_is_named_in_the_answer(client: httpx.AsyncClient, origin: str) -> None:
    answer = await client.get("/", headers={"Origin": origin})
    assert answer.headers["access-control-allow-origin"] == origin


@pytest.mark.req("RES-05")
async def test_a_preflight_gets_204(client: httpx.AsyncClient) -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    answer = await client.options("/api/generate", headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, "http://localhost:3000")


@pytest.mark.req("RES-05")
@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("authorization,x-stainless-os,anthropic-dangerous-direct-browser-access", "x-stainless-os"),
        ("x-made-up-tomorrow", "x-made-up-tomorrow"),
        ("", "authorization"),
        ("x-a: b", "authorization"),
    ],
)
async def test_an_allowed_origin_may_send_whatever_header_it_asks_for(
    client: httpx.AsyncClient, asked: str, allowed: str
) -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    answer = await client.options("/v1/messages", headers=headers | {"Access-Control-Request-Headers": asked})
    assert allowed in answer.headers["access-control-allow-headers"]
    assert ":" not in answer.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Host": "evil.example"}, 'refused the Host "evil.example": if it is to be allowed, name it in SEROW_HOSTS'),
        (
            {"Origin": "http://e.example"},
            'refused the Origin "http://e.example": if it is to be allowed, name it in SEROW_ORIGINS',
        ),
    ],
)
async def test_the_log_says_once_what_to_set_for_a_name_that_was_refused(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, headers: dict[str, str], told: str
) -> None:
    with caplog.at_level(logging.WARNING, "serow"):
        for _ in range(3):
            await client.get("/", headers=headers)
    assert [record.getMessage() for record in caplog.records] == [told]
