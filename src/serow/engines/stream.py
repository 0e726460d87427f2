"""One request to an engine whose answer is read as it comes, on a connection of its own.

aiohttp, which asks for everything else, takes 25 µs of CPU for each piece of a stream, this 17 (measured); half of that is the
kernel's, to wake us and to hand the piece over.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httptools

from serow.engines.child import Listen

_MOST_UNREAD = 256 << 10  # bytes that wait for us; more stay with the engine
_LONGEST_WHOLE = 1 << 20  # bytes of an answer that is read as a whole: an error


class Unreachable(ConnectionError):
    """Nobody takes the connection."""


class AnswerStream(asyncio.Protocol):
    """The answer: `head`, then `read` until nothing comes.

    Raises ConnectionError when the engine breaks off, httptools.HttpParserError for what is not HTTP.
    """

    def __init__(self) -> None:
        self.status = 0
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""  # what has come and was not read
        self._waiter: asyncio.Future[None] | None = None
        self._is_whole = False
        self._error: Exception | None = None
        self._transport: asyncio.Transport
        self._is_paused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Who may be told to wait."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes of the engine."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)
        if len(self._body) > _MOST_UNREAD and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, which is an error before the answer's own."""
        if not self._is_whole:
            self._fail(ConnectionResetError("the engine broke off its answer"))
        self._wake()

    def on_headers_complete(self) -> None:
        """The head is here."""
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """A piece, which is nearly always all that has come."""
        self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self._is_whole = True

    async def head(self) -> int:
        """Wait for the status."""
        while not self.status and self._error is None:
            await self._news()
        self._raise()
        return self.status

    async def read(self) -> bytes:
        """What has come since the last call; waits for something. b"" at the end."""
        if not self._body and not self._is_whole and self._error is None:
            await self._news()
        body, self._body = self._body, b""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        if not body:
            self._raise()
        return body

    async def read_all(self) -> bytes:
        """The rest of a short answer, cut where it is long."""
        pieces = bytearray()
        while (piece := await self.read()) and len(pieces) < _LONGEST_WHOLE:
            pieces += piece
        return bytes(pieces)

    def _news(self) -> asyncio.Future[None]:
        """Is done when something has come."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error

    def _raise(self) -> None:
        if self._error is not None and not self._is_whole:
            raise self._error


@asynccontextmanager
async def post(listen: Listen, path: str, body: bytes, connect_timeout: float) -> AsyncIterator[AnswerStream]:
    """Send JSON; the connection ends with the context, which stops the engine's work. Raises Unreachable."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(connect_timeout):
            if listen.port:
                transport, stream = await loop.create_connection(AnswerStream, listen.host, listen.port)
            else:
                transport, stream = await loop.create_unix_connection(AnswerStream, listen.host)
    except TimeoutError:
        raise
    except OSError as error:
        raise Unreachable(str(error)) from None
    try:
        transport.writelines((_head(listen, path, len(body)), body))
        yield stream
    finally:
        transport.abort()


def _head(listen: Listen, path: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: {listen.host if listen.port else 'engine'}\r\nAuthorization: Bearer {listen.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    ).encode()
