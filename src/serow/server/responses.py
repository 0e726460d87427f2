"""The one place that renders: JSON, errors, and streams that always end with a last record (RES-04, RES-05)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serow.api.codec import encode, encode_line
from serow.errors import Forbidden, RequestError, SerowError, Unavailable
from serow.server.exchange import current

logger = logging.getLogger("serow")

JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
_SHUTTING_DOWN = "the server is shutting down"


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None, media_type: str = JSON) -> Response:
    """A value as JSON."""
    return Response(encode(value), status, headers, media_type)


def error_response(error: SerowError) -> Response:
    """An error before the first byte."""
    current().fail(error)
    if isinstance(error, Forbidden):
        return Response(status_code=error.status)
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Unavailable) else None
    return json_response({"error": str(error)}, error.status, headers)


def error_record(error: Exception) -> dict[str, str]:
    """An error after the first byte: the last line of a stream. What nobody expected is logged and not told."""
    current().fail(error)
    if isinstance(error, SerowError):
        return {"error": str(error)}
    logger.error("unexpected error while streaming", exc_info=error)
    return {"error": "internal error"}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run `work`; when the client leaves first, cancel it and wait until it has ended (LIFE-05)."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


class RecordsResponse(Response):
    """Records as they come: NDJSON, or one JSON object when there is only one to be sent.

    The status goes out with the first record, so an error before it gets a status of its own. The work ends when the
    client leaves, whichever phase it is in.
    """

    def __init__(self, records: AsyncIterator[Any], *, stream: bool, content_type: str = JSON) -> None:
        self._records = records
        self._stream = stream
        self._content_type = content_type
        self._has_begun = False
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await until_disconnect(receive, self._run(send))
        except asyncio.CancelledError:  # the grace time is over
            if not self._has_begun:
                raise Unavailable(_SHUTTING_DOWN) from None

    async def _run(self, send: Send) -> None:
        async with aclosing(self._records) as records:  # type: ignore[type-var]
            first = await anext(records)
            self._has_begun = True
            if not self._stream or is_alone(first):
                await self._send_one(first, send)
                return
            await _start(send, NDJSON)
            await _send(send, encode_line(first))
            await self._send_rest(records, send)

    async def _send_one(self, record: Any, send: Send) -> None:
        body = encode(record)
        await _start(send, self._content_type, len(body))
        await _send(send, body, more=False)

    async def _send_rest(self, records: AsyncIterator[Any], send: Send) -> None:
        try:
            async for record in records:
                await _send(send, encode_line(record))
        except asyncio.CancelledError:
            await _send(send, encode_line(error_record(Unavailable(_SHUTTING_DOWN))), more=False)
            raise
        except Exception as error:  # noqa: BLE001 - the top: every stream ends with a record
            await _send(send, encode_line(error_record(error)))
        await _send(send, b"", more=False)


def is_alone(record: Any) -> bool:
    """Whether a record is an answer of one object although streaming was asked for: load, unload, a rendered prompt."""
    return getattr(record, "done_reason", None) in ("load", "unload") or bool(getattr(record, "debug_info", None))


async def _start(send: Send, content_type: str, length: int | None = None) -> None:
    headers = [(b"content-type", content_type.encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


def render_error(_: Request, error: Exception) -> Response:
    """Starlette's handler for what handlers raise."""
    if isinstance(error, SerowError):
        return error_response(error)
    current().fail(error)
    return json_response({"error": "internal error"}, 500)


def client_left(_: Request, __: Exception) -> Response:
    """A client that left while it was still sending: an answer that nobody reads."""
    return Response(status_code=499)


def not_found(_: Request, __: Exception) -> Response:
    """A path that no route knows."""
    return Response("404 page not found", 404, media_type="text/plain")


def method_not_allowed(_: Request, error: Exception) -> Response:
    """A method that the route does not have; `Allow` names those that it has (RFC 9110, 15.5.6)."""
    return Response("405 method not allowed", 405, getattr(error, "headers", None), "text/plain")


def require(condition: object, message: str) -> None:
    """Raise RequestError with `message` unless `condition` holds."""
    if not condition:
        raise RequestError(message)
