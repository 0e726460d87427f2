"""Who is refused again and again waits for the next refusal, as long as others are being answered.

A refused request costs its reading, its checks, maybe a process that tried its schema; hundreds in a second take from whoever
streams. A client that is alone waits for nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serow.server.address import client_of
from serow.workers.share import Shares

AT_ONCE = 20  # refusals that a client waits for none of
RATE = 10.0  # of these that come back in each second
LONGEST_WAIT = 1.0  # seconds


class Refusals:
    """ASGI middleware; the `scope` has `state.client`, who asks, by the time that an answer begins."""

    def __init__(
        self,
        app: ASGIApp,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._app, self._sleep = app, sleep
        self._shares = Shares(clock, credit=AT_ONCE, rate=RATE)
        self._in_flight: dict[int, Scope] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_later(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                await self._sleep(self._wait(scope))
            await send(message)

        self._in_flight[id(scope)] = scope
        try:
            await self._app(scope, receive, send_later)
        finally:
            del self._in_flight[id(scope)]

    def _wait(self, scope: Scope) -> float:
        """Seconds until this refusal is told."""
        client = client_of(scope)
        work = client or "nobody", "refusals"
        owed = -self._shares.credit(work)
        if owed < RATE * LONGEST_WAIT:
            self._shares.charge(work, 1.0)
        if owed < 0 or all(client_of(each) == client for each in self._in_flight.values()):
            return 0.0
        return min(LONGEST_WAIT, (owed + 1.0) / RATE)
