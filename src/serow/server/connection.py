"""A client's connection, bounded in what it may send before it is understood, and in how long it may take to send and to read.

uvicorn bounds none of that. The application never notices: a connection that ends here looks like a client that left, and its
work stops the same way. An offered upgrade is never followed, and trailers never reach the headers (RES-07).
"""

import asyncio
import json
import logging
import socket
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serow.server.address import network_of
from serow.settings import Settings

MIN_RATE = 500  # bytes a second that a body must bring
MOST_AHEAD = 64  # requests that a client sends before it has the answer to the one before them
WRITE_BUFFER = 16 << 10  # bytes of an answer that wait for a client, in the kernel and as many here
_REFUSED_TIMEOUT = 1.0  # seconds in which a connection beyond the limit may still fetch its 503
_Refusal = tuple[HTTPStatus, str]
_NOT_HTTP: _Refusal = (HTTPStatus.BAD_REQUEST, "the request is not valid HTTP")
_TOO_MANY = "server busy, please try again: too many connections"
_TOO_MUCH_AHEAD = "server busy, please try again: requests that were sent ahead hold too many bytes"

logger = logging.getLogger(__name__)


def _send_unframed(cycle: RequestResponseCycle) -> None:
    """Answer HTTP/1.0: no chunks, which it does not know (RFC 9112, 6.1); a body without a length ends with the connection."""
    send = cycle.send
    cycle.chunked_encoding = False

    async def send_unframed(message: Any) -> None:
        if message["type"] == "http.response.body":
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_unframed  # type: ignore[method-assign]


@dataclass
class Clients:
    """What the clients of one server hold together, by the network of each."""

    connections: Counter[str] = field(default_factory=Counter)
    ahead: Counter[str] = field(default_factory=Counter)  # bytes of requests that wait behind others of their connection


def bounded(settings: Settings) -> type[asyncio.Protocol]:
    """uvicorn's protocol with the limits of `settings`."""
    return cast(type[asyncio.Protocol], partial(Connection, settings=settings, clients=Clients()))


def change(counts: Counter[str], name: str, number: int) -> None:
    """Count more, or fewer, and keep nothing of who has none."""
    counts[name] += number
    if not counts[name]:
        del counts[name]


class Connection(HttpToolsProtocol):
    """HTTP/1.1 with limits: 408 for who sends too slowly, 431 for endless headers, 503 beyond the number of connections.

    Who reads nothing of an answer for the write timeout is dropped.
    """

    def __init__(self, *args: Any, settings: Settings, clients: Clients, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._settings = settings
        self._clients = clients
        self._network = ""
        self._ahead: deque[int] = deque()  # bytes of each request of the pipeline, the latest first
        self._refusal: _Refusal | None = None
        self._is_in_head = False
        self._is_declining = False  # the request offers to speak something else
        self._has_begun = False  # a head, in this read
        self._head_size = 0  # bytes of a head that is not all here
        self._known_size = 0  # bytes of it that the parser told of: what stands before it in the same read is none of its
        self._frame_size = 0  # bytes since the body's last one: chunk sizes and trailers
        self._window_size = 0  # bytes since the read timer started
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock; what is written here is buffered little, so that a stalled client shows."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, WRITE_BUFFER)
        self._network = network_of(self.client[0] if self.client else "")
        change(self._clients.connections, self._network, 1)
        is_one_too_many = (
            len(self.connections) > self._settings.max_connections
            or self._clients.connections[self._network] > self._settings.client_connections
        )
        if is_one_too_many:
            self._refusal = HTTPStatus.SERVICE_UNAVAILABLE, _TOO_MANY
        self._start_reading(_REFUSED_TIMEOUT if is_one_too_many else self._settings.read_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
        self._stop_reading()
        self._stop_writing()
        change(self._clients.connections, self._network, -1)
        change(self._clients.ahead, self._network, -sum(self._ahead))
        self._ahead.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        self._unset_keepalive_if_required()
        if self._refusal is not None:
            self._end_behind_answers()
            return
        self._window_size += len(data)
        self._frame_size += len(data)
        self._has_begun = False
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refusal = self._refusal or _NOT_HTTP
            self._end_behind_answers()
            return
        if self._is_in_head:
            self._head_size = self._known_size if self._has_begun else self._head_size + len(data)
            self._check_size(self._head_size, "request line and headers")
            return
        if self.cycle is not None and self.cycle.more_body:
            self._check_size(self._frame_size, "chunk sizes and trailers")
        if self._read_timer is None and self._is_idle:  # uvicorn stopped its clock for bytes that begin no request
            self._start_reading(self._settings.read_timeout)

    def _feed(self, data: bytes) -> None:
        """Let the parser read; it stops behind a head that offers an upgrade, and reads that again without the offer."""
        while data and self.parser is not None:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = self._without_offer() + data[offer.args[0] :]

    def _without_offer(self) -> bytes:
        """The head of the request that offers an upgrade, to be read by a new parser: its body is its body."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join([*lines, b"", b""])

    def _check_size(self, size: int, what: str) -> None:
        limit = self._settings.max_header
        if size > limit:
            self._end(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the {what} are larger than {limit} bytes")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._is_in_head, self._has_begun, self._known_size = True, True, 0
        self._start_reading(self._settings.read_timeout)

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._known_size += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; one that comes behind the body is a trailer, which nobody here waits for."""
        if self._is_in_head:
            self._known_size += len(name) + len(value) + 4
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The request is known; a body may follow, with a clock of its own."""
        if self.parser.get_method() == b"CONNECT":
            self._refuse(HTTPStatus.BAD_REQUEST, "this server is no proxy: CONNECT is not served")
        if len(self.pipeline) >= MOST_AHEAD:
            self._refuse(HTTPStatus.BAD_REQUEST, f"more than {MOST_AHEAD} requests were sent ahead")
        self._is_declining = self.parser.should_upgrade()
        if self._is_declining:
            return
        self._is_in_head = False
        self._frame_size = 0
        self._start_reading(self._settings.read_timeout)
        self._read_authority()
        num_waiting = len(self.pipeline)
        super().on_headers_complete()
        if len(self.pipeline) > num_waiting:
            self._ahead.appendleft(0)
            self._hold_ahead(self._known_size)
        if self.parser.get_http_version() == "1.0" and self.cycle is not None:
            _send_unframed(self.cycle)

    def _read_authority(self) -> None:
        """A target with an authority says who is asked, whatever Host says (RFC 9112, 3.2.2)."""
        if self.url.startswith((b"/", b"*")):
            return
        authority = urlsplit(self.url.decode("latin-1")).netloc.encode("latin-1")
        if authority and sum(name == b"host" for name, _ in self.headers) <= 1:
            self.headers[:] = [header for header in self.headers if header[0] != b"host"] + [(b"host", authority)]

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        """Stop the parser from within."""
        self._refusal = status, text
        raise ValueError(text)

    def _end_behind_answers(self) -> None:
        """Refuse what came; what is no request takes no answer from those before it, which are whole."""
        assert self._refusal is not None
        if self._refusal is not _NOT_HTTP or self._is_idle or self.cycle.more_body:
            self._end(*self._refusal)
            return
        self._stop_reading()
        self.cycle.keep_alive = False

    def _hold_ahead(self, size: int) -> None:
        """Count bytes of the latest request, which waits behind another one; that many of all are too many."""
        self._ahead[0] += size
        change(self._clients.ahead, self._network, size)
        most = self._settings.max_in_flight
        if self._clients.ahead[self._network] > most // 2 or self._clients.ahead.total() > most:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, _TOO_MUCH_AHEAD)

    def on_response_complete(self) -> None:
        """The next request of the pipeline begins. Only behind the last one is more read."""
        if self._ahead:
            change(self._clients.ahead, self._network, -self._ahead.pop())
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._frame_size = 0
        if self._ahead:
            self._hold_ahead(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is all here."""
        if self._is_declining:
            return
        self._stop_reading()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._settings.write_timeout, self._drop)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._stop_writing()
        super().resume_writing()

    def _start_reading(self, timeout: float) -> None:
        self._stop_reading()
        self._window_size = 0
        self._read_timer = self.loop.call_later(timeout, self._read_timed_out)

    def _stop_reading(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _stop_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _read_timed_out(self) -> None:
        """A body that came along goes on, as does one that we did not want to read yet; all else ends."""
        timeout = self._settings.read_timeout
        is_body = not self._is_in_head and self.cycle is not None
        if is_body and (self.flow.read_paused or self._window_size >= MIN_RATE * timeout):
            self._start_reading(timeout)
        else:
            self._end(HTTPStatus.REQUEST_TIMEOUT, "the request came too slowly")

    def _drop(self) -> None:
        logger.info("a client that read nothing for %g s was dropped", self._settings.write_timeout)
        self.transport.abort()

    def _end(self, status: HTTPStatus, text: str) -> None:
        """Close, with an answer where none has begun."""
        logger.info("a connection was closed: %s", text)
        if self._may_answer:
            body = json.dumps({"error": text}).encode()
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json; charset=utf-8\r\n"
            retry = "retry-after: 1\r\n" if status is HTTPStatus.SERVICE_UNAVAILABLE else ""
            self.transport.write(f"{head}{retry}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()
        self._stop_writing()
        self._write_timer = self.loop.call_later(self._settings.write_timeout, self.transport.abort)

    @property
    def _may_answer(self) -> bool:
        """Whether nobody else is answering, and there is a question."""
        if self.pipeline:
            return False
        if self._is_in_head or self.cycle is None:
            return self._is_idle and (self._is_in_head or self._refusal is not None)
        return not self.cycle.response_started

    @property
    def _is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete
