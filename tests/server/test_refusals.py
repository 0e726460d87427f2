"""Refusals that come one after the other are told slowly, while others are being answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from serow.server.refusals import AT_ONCE, LONGEST_WAIT, RATE, Refusals

DEADLINE = 10.0  # seconds


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Server:
    """An application that answers with the status that a path names, `/200` when it is told to."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.app = Refusals(self._answer, self.clock, self._sleep)
        self.is_asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.waited: list[float] = []

    async def _sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.clock.now += seconds

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/200":
            self.is_asked.set()
            await self.may_answer.wait()
        await send({"type": "http.response.start", "status": int(scope["path"][1:]), "headers": []})

    async def ask(self, client: str, status: int) -> int:
        """The status of the answer."""
        statuses: list[int] = []

        async def send(message: Message) -> None:
            statuses.append(message["status"])

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        scope = {"type": "http", "path": f"/{status}", "client": ("127.0.0.1", 1), "state": {"client": client}}
        await self.app(scope, receive, send)
        return statuses[0]

    @asynccontextmanager
    async def answering(self, client: str) -> AsyncIterator[None]:
        """Somebody is being answered meanwhile."""
        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
            tasks.create_task(self.ask(client, 200))
            await self.is_asked.wait()
            yield
            self.may_answer.set()


@pytest.fixture
def server() -> Server:
    return Server()


async def test_a_client_that_is_alone_waits_for_no_refusal(server: Server) -> None:
    for _ in range(10 * AT_ONCE):
        assert await server.ask("one", 400) == 400
    assert sum(server.waited) == 0


async def test_own_requests_that_are_being_answered_make_nobody_wait(server: Server) -> None:
    async with server.answering("one"):
        for _ in range(2 * AT_ONCE):
            await server.ask("one", 404)
    assert sum(server.waited) == 0


async def test_while_another_is_answered_refusals_beyond_the_first_come_at_a_steady_rate(server: Server) -> None:
    async with server.answering("another"):
        for _ in range(AT_ONCE):
            assert await server.ask("one", 400) == 400
        assert sum(server.waited) == 0
        for _ in range(30):
            await server.ask("one", 401)
    assert server.clock.now == pytest.approx(30 / RATE)


async def test_a_client_that_is_never_refused_does_not_wait_for_one_that_is(server: Server) -> None:
    async with server.answering("another"):
        for _ in range(2 * AT_ONCE):
            await server.ask("one", 400)
        server.waited.clear()
        await server.ask("third", 404)
        await server.ask("one", 201)
    assert server.waited == [0.0]


async def test_nobody_waits_for_longer_than_a_second_and_what_was_long_ago_is_forgotten(server: Server) -> None:
    async with server.answering("another"):
        many = {"type": "http", "client": ("127.0.0.1", 1), "state": {"client": "one"}}
        assert max(server.app._wait(many) for _ in range(500)) == LONGEST_WAIT
        server.clock.now += AT_ONCE / RATE + LONGEST_WAIT
        assert server.app._wait(many) == 0


def test_the_rate_is_as_documented() -> None:
    document = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    assert f"more than {AT_ONCE} times at once and {RATE:g} times a second" in document
