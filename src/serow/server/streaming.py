"""Answers that are sent as they come: streams that always end with a last record, work that ends when its client leaves."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any, Generic, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serow.errors import SerowError, Unavailable
from serow.server.exchange import current, task_name
from serow.server.responses import JSON
from serow.wire import server_sent
from serow.wire.json import encode, encode_line
from serow.wire.lines import Lines
from serow.wire.stream import Stream, Whole

logger = logging.getLogger("serow")
T = TypeVar("T")

SILENCE = 10.0  # seconds, after which a stream says that it still lives
_SHUTTING_DOWN = "the server is shutting down"


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run `work`; when the client leaves first, cancel it and wait until it has ended (LIFE-05)."""
    task = asyncio.create_task(work, name=task_name(current()))
    watch = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


class StreamResponse(Response, Generic[T]):
    """Events as they come, or `whole` as one JSON value.

    The status goes out with the first bytes, so an error before them gets a status of its own. The work ends when the client
    leaves, whichever phase it is in.
    """

    def __init__(
        self,
        events: AsyncGenerator[T, None],
        stream: Stream[T],
        whole: Whole[T],
        *,
        streams: bool,
        is_alone: Callable[[T], bool] = lambda _: False,
        whole_type: str = JSON,
    ) -> None:
        """`is_alone` says of a first event that it is the whole answer although streaming was asked for."""
        self._events = events
        self._stream = stream
        self._whole = whole
        self._streams = streams
        self._is_alone = is_alone
        self._whole_type = whole_type
        self._has_begun = False
        self._sent_at = 0.0
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await until_disconnect(receive, self._run(send))
        except asyncio.CancelledError:  # the grace time is over
            if not self._has_begun:
                raise Unavailable(_SHUTTING_DOWN) from None

    async def _run(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            if not self._streams:
                await self._send_whole(events, send)
                return
            async with self._pinging(send):
                await self._send_stream(events, send)

    async def _send_whole(self, events: AsyncGenerator[T, None], send: Send) -> None:
        async for event in events:
            self._whole.add(event)
        body = encode(self._whole.value())
        self._has_begun = True
        await _start(send, self._whole_type, len(body))
        await _end(send, body)

    async def _send_stream(self, events: AsyncGenerator[T, None], send: Send) -> None:
        is_first, feed = True, self._stream.feed
        try:
            async for event in events:
                if is_first and not self._has_begun and self._is_alone(event):
                    self._whole.add(event)
                    await self._send_whole(events, send)
                    return
                is_first = False
                if data := feed(event):
                    await self._send(data, send)
            await self._send(self._stream.finish(), send)
        except asyncio.CancelledError:
            if self._has_begun:
                await _end(send, self._stream.fail(told(Unavailable(_SHUTTING_DOWN))))
            raise
        except Exception as error:  # the top: every stream ends with a record
            if not self._has_begun:
                raise
            await self._send(self._stream.fail(told(error)), send)
        await _end(send)

    async def _send(self, data: bytes, send: Send) -> None:
        if not self._has_begun:
            self._has_begun = True
            await _start(send, self._stream.content_type)
        self._sent_at = time.monotonic()
        await send({"type": "http.response.body", "body": data, "more_body": True})

    @asynccontextmanager
    async def _pinging(self, send: Send) -> AsyncIterator[None]:
        """Send something now and then while nothing comes, where the dialect has a word for it."""
        if not self._stream.has_pings:
            yield
            return
        self._sent_at = time.monotonic()
        task = asyncio.create_task(self._ping(send))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _ping(self, send: Send) -> None:
        while True:
            left = self._sent_at + SILENCE - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)
            else:
                await self._send(self._stream.ping(), send)


def told(error: Exception) -> SerowError:
    """An error after the first byte; what nobody expected is logged and not told."""
    current().fail(error)
    if isinstance(error, SerowError):
        return error
    logger.error("unexpected error while streaming", exc_info=error)
    return SerowError("internal error")


class RecordLines(Lines):
    """Records of progress as NDJSON."""

    def feed(self, record: Any) -> bytes:
        """A line."""
        return encode_line(record)


class LastRecord:
    """Of records of progress only the last one counts."""

    def __init__(self) -> None:
        self._last: Any = {}

    def add(self, record: Any) -> None:
        """One record more."""
        self._last = record

    def value(self) -> Any:
        """The last one."""
        return self._last


async def _start(send: Send, content_type: str, length: int | None = None) -> None:
    headers = [(b"content-type", content_type.encode())]
    if content_type == server_sent.CONTENT_TYPE:
        headers.append((b"cache-control", b"no-cache"))
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _end(send: Send, body: bytes = b"") -> None:
    await send({"type": "http.response.body", "body": body, "more_body": False})
