"""The servers that tests start: one inside the test, reached over a real socket, and one in a process of its own.

Of the first a test sees the scheduler, and may bring engines of its own.
"""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import psutil
import uvicorn
from starlette.applications import Starlette

from serow.scheduler.loaded import LoadedModel
from serow.scheduler.resident import Resident, State
from serow.scheduler.scheduler import RunnerFactory, Scheduler
from serow.server.app import create_app
from serow.settings import Settings

START_DEADLINE = 30.0  # seconds
END_DEADLINE = 30.0
POLL = 0.03
ONE_SECOND = 1.0  # LIFE-05
ENDLESS = {"num_predict": -1, "logit_bias": {"2": -1e9}, "temperature": 1.0, "seed": 1}  # zoo-think can't say that it is done


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class Running:
    """The server: `post` to it, look at its `scheduler`, ask its engines for their `slots`."""

    root = Path()  # of the model store, where a test needs it

    def __init__(self, app: Starlette, url: str, session: aiohttp.ClientSession) -> None:
        self._app = app
        self.url = url
        self.session = session

    @property
    def scheduler(self) -> Scheduler:
        scheduler: Scheduler = self._app.state.context.scheduler
        return scheduler

    @property
    def loaded(self) -> LoadedModel:
        """The one model in memory."""
        (loaded,) = self.scheduler.loaded()
        return loaded

    def residents(self, state: State) -> list[Resident]:
        """Models in that state of their life."""
        return [resident for resident in self.scheduler._residents if resident.state is state]

    async def slots(self) -> list[dict[str, Any]]:
        """What the engine of the one loaded model says of its slots."""
        (resident,) = self.residents(State.READY)
        async with resident.runner._child.session.get("/slots") as response:  # type: ignore[union-attr]
            slots: list[dict[str, Any]] = await response.json()
        return slots

    async def num_busy(self) -> int:
        """How many slots of the engine are at work."""
        return sum(slot["is_processing"] for slot in await self.slots())

    def post(self, body: dict[str, Any]) -> "Client":
        """A client that has sent a request to /api/generate."""
        return Client(self, body)

    async def load(self, model: str, **options: Any) -> None:
        """Have a model in memory."""
        async with self.session.post("/api/generate", json={"model": model, "options": options}) as response:
            assert response.status == 200, await response.text()


class Client:
    """A request in flight, as an async context that leaves, wherever the request is, unless it is `answer`ed first."""

    def __init__(self, server: Running, body: dict[str, Any]) -> None:
        self._server = server
        self._body = body
        self._task: asyncio.Task[tuple[int, bytes]] | None = None
        self._has_begun = asyncio.Event()

    async def _send(self) -> tuple[int, bytes]:
        async with self._server.session.post("/api/generate", json=self._body) as response:
            self._has_begun.set()
            return response.status, await response.read()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._send())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    @property
    def is_over(self) -> bool:
        """Whether the answer has come to its end."""
        return self._task is not None and self._task.done()

    async def begins(self) -> None:
        """Wait for the status; a stream's goes out with its first record."""
        async with asyncio.timeout(END_DEADLINE):
            await self._has_begun.wait()

    async def answer(self) -> tuple[int, list[dict[str, Any]]]:
        """Wait for the status and the records."""
        assert self._task is not None
        async with asyncio.timeout(END_DEADLINE):
            status, body = await asyncio.shield(self._task)
        return status, [json.loads(line) for line in body.splitlines()]


@asynccontextmanager
async def running(settings: Settings, start: RunnerFactory | None = None, port: int = 0) -> AsyncIterator[Running]:
    """Serve with these settings, on a port of the system's choice (0), while the context lasts; `start` gives the engines."""
    app = create_app(replace(settings, slot_cache=0), start)  # models are the same in all tests; prompts are to be read anew
    config = uvicorn.Config(
        app, port=port, log_level="critical", access_log=False, timeout_graceful_shutdown=5, timeout_keep_alive=30
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(START_DEADLINE):
        await server.listening.wait()
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
            yield Running(app, url, session)
    finally:
        server.should_exit = True
        async with asyncio.timeout(END_DEADLINE):
            await serving


@dataclass(frozen=True)
class Served:
    """`serow serve` in a process of its own."""

    process: subprocess.Popen[str]
    url: str

    def engines(self) -> list[psutil.Process]:
        """Its engines, and what they started: no workers, which stay for the next job."""
        found: list[psutil.Process] = []
        for child in psutil.Process(self.process.pid).children():
            if any(word.startswith("serow.engines.") for word in child.cmdline()):
                found += (child, *child.children(recursive=True))
        return found


def url_in(line: str) -> str:
    """The address in what a server says first, in words or as JSON."""
    found = re.search(r"https?://[^\s\"]+", line)
    assert found is not None, line
    return found[0]


@contextmanager
def served(models: Path, **environ: str) -> Iterator[Served]:
    """Serve on a port of the system's choice; killed at the end, if it still runs."""
    env = {**os.environ, "SEROW_HOST": "127.0.0.1:0", "SEROW_MODELS": str(models), **environ}
    argv = [sys.executable, "-m", "serow", "serve"]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Served(process, url_in(process.stdout.readline()))
        finally:
            process.kill()


@contextmanager
def running_server(models: Path, **environ: str) -> Iterator[str]:
    """A server whose engines take one thread, and that asks nobody outside: yields its base URL, ends it with SIGTERM."""
    with served(models, **{"SEROW_NUM_THREAD": "1", "SEROW_OFFLINE": "1", **environ}) as started:
        try:
            yield started.url
        finally:
            started.process.terminate()
            assert started.process.wait(END_DEADLINE) == 0


async def until(holds: Callable[[], Any], deadline: float = START_DEADLINE) -> None:
    """Look again and again until `holds` (plain or async) is true. Asked at every moment, an engine would do nothing else."""
    async with asyncio.timeout(deadline):
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(POLL)


def everything(connection: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    data = bytearray()
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            data += part
    return bytes(data)
