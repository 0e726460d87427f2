"""Every field of every route with every value that nobody would send: the fault is the client's, never ours.

The engine is one that computes nothing, so what fails here fails before it or behind it. `bench/fuzz.py` asks real ones.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import Message

from serow.server.app import create_app
from serow.server.openapi import document
from serow.server.operation import Operation
from serow.server.routes import OPERATIONS
from serow.settings import Settings
from serow.store.store import Store
from tests.conftest import create
from tests.support.engine import FakeEngine, starting
from tests.support.hostile import VALUES, places, with_value
from tests.support.samples import SAMPLES

DOCUMENT = document(OPERATIONS)
FETCHING = ("/api/pull", "/api/push")  # what is not there may be said with a 500, as the peer does
with_body = [operation for operation in OPERATIONS if operation.body is not None or operation.path in SAMPLES]


NUM_CLIENTS = 4  # at once: some answers wait for threads and workers
LONGEST = 60.0  # seconds that an answer may take


@pytest.fixture
async def app(tmp_path: Path, zoo: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Starlette]:
    """A server whose engine says two words to everything, where no name leads anywhere."""
    monkeypatch.setattr(socket, "getaddrinfo", _numbers_alone)
    store = Store(tmp_path / "models")
    create(store, "zoo-think", zoo / "zoo-think.gguf")
    settings = Settings(models=store.root, slots=tmp_path / "slots", slot_cache=0)
    app = create_app(settings, starting(zoo_think=FakeEngine(["one", " two"])))
    async with app.router.lifespan_context(app):
        yield app


_getaddrinfo = socket.getaddrinfo


def _numbers_alone(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
    """The addresses that are numbers; a lookup takes seconds where there is no network."""
    return _getaddrinfo(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)


class Answer:
    """What the server says to a request; it is asked without a connection, which would take most of the time."""

    def __init__(self, operation: Operation, body: bytes) -> None:
        self.status = 500
        self.body = b""
        self._unread: list[Message] = [{"type": "http.request", "body": body}]
        self._is_over = asyncio.Event()
        self._scope = {
            "type": "http",
            "http_version": "1.1",
            "method": operation.method,
            "scheme": "http",
            "path": operation.path,
            "raw_path": operation.path.encode(),
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-length", str(len(body)).encode())],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }

    async def of(self, app: Starlette) -> "Answer":
        """Ask; what the server raises behind its answer is in the answer."""
        async with asyncio.timeout(LONGEST):
            try:
                await app(self._scope, self._receive, self._send)
            except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
                self.body += repr(error).encode()
        return self

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    async def _receive(self) -> Message:
        if not self._unread:
            await self._is_over.wait()
            return {"type": "http.disconnect"}
        return self._unread.pop()

    async def _send(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._is_over.set()


def bodies(operation: Operation) -> dict[str, bytes]:
    """A body for each field that the document or the sample has, with each value in it."""
    sample = SAMPLES.get(operation.path, {})
    found = list(places(sample))
    if operation.body is not None:
        declared = DOCUMENT["components"]["schemas"][operation.body.__name__]["properties"]
        found += [(name,) for name in declared if (name,) not in found]
        if "options" in declared:
            found += [("options", name) for name in DOCUMENT["components"]["schemas"]["Options"]["properties"]]
    return {f"{path} {name}": with_value(sample, path, text) for path in found for name, text in VALUES.items()}


def fault_of(operation: Operation, answer: Answer) -> str:
    """What is wrong with an answer, "" for nothing."""
    if "internal error" in answer.text:
        return answer.text
    if answer.status < 500:
        return ""
    is_known = operation.path in FETCHING and json.loads(answer.body)["error"]
    return "" if is_known else f"{answer.status} {answer.text[:200]}"


async def faults_of(app: Starlette, operation: Operation, given: Iterator[tuple[str, bytes]]) -> dict[str, str]:
    """The faults that one client finds with bodies that it takes from those that are left."""
    faults = {}
    for name, body in given:
        if fault := fault_of(operation, await Answer(operation, body).of(app)):
            faults[name] = fault
    return faults


def test_every_route_with_a_body_has_a_sample() -> None:
    assert {operation.path for operation in OPERATIONS if operation.body is not None} <= SAMPLES.keys()


@pytest.mark.req("RES-05")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("operation", with_body, ids=[operation.path for operation in with_body])
async def test_no_value_of_any_field_finds_a_fault_of_ours(app: Starlette, operation: Operation) -> None:
    given = iter(bodies(operation).items())
    found = await asyncio.gather(*(faults_of(app, operation, given) for _ in range(NUM_CLIENTS)))
    faults = {name: fault for each in found for name, fault in each.items()}
    assert not faults, json.dumps(faults, indent=1)[:5000]
