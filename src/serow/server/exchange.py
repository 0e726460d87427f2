"""One request and what came of it: gathered on the way by whoever knows, told once at the end to metrics, log and traces.

The middleware stands around everything, Starlette's own error handling included, so that nothing goes uncounted. It gives each
request an id, which the answer carries in `X-Request-Id` and every error in the log names.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serow.inference.timeline import Timeline
from serow.server.address import client_of

CLIENT_LEFT = 499  # as nginx counts it
_UNKNOWN = "other"
_TASK = "request "
_ID_HEADERS = (b"x-request-id", b"request-id")  # the second one is Anthropic's
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

_current: ContextVar["Exchange"] = ContextVar("exchange")


@dataclass
class Exchange:
    """`status` is what it came to: also the error that ends a stream after its 200, or 499 for a client that left."""

    id: str
    method: str
    path: str
    client: str
    traceparent: str = ""
    route: str = _UNKNOWN  # a path of ours, whatever was asked for
    status: int = 0
    duration: int = 0  # ns
    model: str = ""  # as asked for
    prompt: str = ""
    error: Exception | None = None
    holder: str = ""  # the client that `held` is counted for
    held: int = 0  # bytes of the body, until all is over
    is_complete: bool = False  # the whole answer was handed over
    has_left: bool = False
    has_anthropic_version: bool = False  # the header by which clients of Anthropic's API tell that they are
    timeline: Timeline = field(default_factory=Timeline)

    def fail(self, error: Exception) -> None:
        """The answer is, or ends with, an error."""
        self.error = error

    def end(self, scope: Scope) -> None:
        """Nothing more will happen; the scope has seen its route by now."""
        self.duration = time.perf_counter_ns() - self.timeline.started
        self.client = client_of(scope)
        if route := scope.get("route"):
            self.route = route.path
        if self.has_left:
            self.status = CLIENT_LEFT
        elif self.error is not None:
            self.status = getattr(self.error, "status", 500)


def current() -> Exchange:
    """The exchange that the running task works for; outside of one, a new one that nobody hears of."""
    return _current.get(None) or Exchange("", "", "", "")


def task_name(exchange: Exchange) -> str:
    """What a task that works for an exchange is called, so that others can tell."""
    return f"{_TASK}{exchange.id}"


def request_of(task: "asyncio.Task[Any]") -> str:
    """The id of the request that a task works for; "" for none."""
    name = task.get_name()
    return name.removeprefix(_TASK) if name.startswith(_TASK) else ""


class ExchangeMiddleware:
    """ASGI middleware that makes the exchange and hands it to each of `observers` when it is over."""

    def __init__(self, app: ASGIApp, observers: Sequence[Callable[[Exchange], None]]) -> None:
        self._app = app
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _exchange(scope)
        if (task := asyncio.current_task()) is not None:
            task.set_name(task_name(exchange))
        _current.set(exchange)  # never reset: what the server logs of this request afterwards is about it, too
        try:
            await self._app(scope, _watched(receive, exchange), _noted(send, exchange))
        finally:
            exchange.end(scope)
            for observe in self._observers:
                observe(exchange)
            exchange.error = None  # what it arose from holds the body, and whoever remembers `_current` this exchange


def _exchange(scope: Scope) -> Exchange:
    headers = dict(scope["headers"])
    given = headers.get(b"x-request-id", b"")
    return Exchange(
        id=given.decode("ascii") if _SANE_ID.fullmatch(given) else secrets.token_hex(8),
        method=scope["method"],
        path=scope["path"],
        client=client_of(scope),
        traceparent=headers.get(b"traceparent", b"").decode("latin-1"),
        has_anthropic_version=b"anthropic-version" in headers,
    )


def _watched(receive: Receive, exchange: Exchange) -> Receive:
    async def receive_watched() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect" and not exchange.is_complete:
            exchange.has_left = True
        return message

    return receive_watched


def _noted(send: Send, exchange: Exchange) -> Send:
    async def send_noted(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            ids = [(name, exchange.id.encode()) for name in _ID_HEADERS]
            message = {**message, "headers": [*message.get("headers", ()), *ids]}
        elif not message.get("more_body") and not exchange.has_left:
            exchange.is_complete = True
        await send(message)

    return send_noted
