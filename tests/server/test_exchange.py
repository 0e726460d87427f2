import contextvars
import gc
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from serow.errors import EngineDied, RequestError, SerowError
from serow.server.exchange import CLIENT_LEFT, Exchange, ExchangeMiddleware
from serow.server.responses import render_error
from serow.server.streaming import LastRecord, RecordLines, StreamResponse

Endpoint = Callable[[Request], Awaitable[Response]]


class Body:
    """What the frames of a handler hold."""


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def broken_stream(_: Request) -> Response:
    async def records() -> AsyncGenerator[dict[str, str], None]:
        yield {"response": "a"}
        raise EngineDied("the engine ended with signal 9")

    return StreamResponse(records(), RecordLines(), LastRecord(), streams=True)


async def bug(_: Request) -> Response:
    raise KeyError("nobody expected that")


@asynccontextmanager
async def watched(endpoint: Endpoint, path: str = "/thing/{name}") -> AsyncIterator[tuple[httpx.AsyncClient, list[Exchange]]]:
    """A client of one endpoint, and the exchanges as they were told."""
    seen: list[Exchange] = []
    app = Starlette(routes=[Route(path, endpoint)], exception_handlers={SerowError: render_error, Exception: render_error})
    observed = ExchangeMiddleware(app.build_middleware_stack(), [lambda exchange: seen.append(replace(exchange))])
    transport = httpx.ASGITransport(observed, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client, seen


async def test_every_answer_carries_an_id_of_its_own() -> None:
    async with watched(hello) as (client, seen):
        ids = [(await client.get("/thing/x")).headers["x-request-id"] for _ in range(3)]
    assert ids == [exchange.id for exchange in seen]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("given", "is_kept"), [("job-7.2_a", True), ("a" * 64, True), ("a" * 65, False), ("a b", False), ("", False)]
)
async def test_an_id_that_the_client_brings_is_kept_if_it_is_sane(given: str, is_kept: bool) -> None:
    async with watched(hello) as (client, _):
        answer = await client.get("/thing/x", headers={"X-Request-Id": given})
    assert (answer.headers["x-request-id"] == given) is is_kept


async def test_an_exchange_tells_the_route_and_not_the_path_that_a_client_made_up() -> None:
    async with watched(hello) as (client, seen):
        await client.get("/thing/secret")
        await client.get("/elsewhere")
        await client.post("/thing/x")
    assert [(exchange.route, exchange.status) for exchange in seen] == [
        ("/thing/{name}", 200),
        ("other", 404),
        ("/thing/{name}", 405),
    ]


async def test_a_stream_that_ends_with_an_error_counts_as_that_error() -> None:
    async with watched(broken_stream) as (client, seen):
        answer = await client.get("/thing/x")
    assert (answer.status_code, seen[0].status, str(seen[0].error)) == (200, 500, "the engine ended with signal 9")


async def test_what_nobody_expected_is_observed_with_its_id() -> None:
    async with watched(bug) as (client, seen):
        answer = await client.get("/thing/x")
    assert (answer.status_code, answer.json(), seen[0].status) == (500, {"error": "internal error"}, 500)
    assert answer.headers["x-request-id"] == seen[0].id


async def test_a_client_that_left_counts_as_499() -> None:
    async def wait(request: Request) -> Response:
        assert (await request.receive())["type"] == "http.disconnect"
        return PlainTextResponse("to nobody")

    seen: list[Exchange] = []
    app = ExchangeMiddleware(Starlette(routes=[Route("/", wait)]), [seen.append])
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "client": ("1.2.3.4", 5)}

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(_: object) -> None:
        pass

    await app(scope, receive, send)
    assert (seen[0].status, seen[0].client) == (CLIENT_LEFT, "1.2.3.4")


async def test_what_a_failed_request_held_is_gone_with_it_also_where_something_remembers_the_request() -> None:
    """Timers and tasks keep the context that they were made in, and with it the exchange, for as long as they live."""
    kept: list[contextvars.Context] = []
    held: list[weakref.ref[Body]] = []

    async def refuse(_: Request) -> Response:
        body = Body()
        held.append(weakref.ref(body))
        kept.append(contextvars.copy_context())
        try:
            raise ValueError(body)
        except ValueError:
            raise RequestError("the request body is broken at its end") from None

    gc.collect()
    gc.disable()
    try:
        async with watched(refuse) as (client, seen):
            await client.get("/thing/x")
            assert [(exchange.status, str(exchange.error)) for exchange in seen] == [
                (400, "the request body is broken at its end")
            ]
            seen.clear()
        assert (len(kept), held[0]()) == (1, None)
    finally:
        gc.enable()
