"""Requests that nobody would write, at a real server with real engines: how many find a fault of ours, or hold the others up.

    python -m bench.fuzz --requests 100000          # exit status 1 when a rule is broken
    python -m bench.fuzz --requests 1000 --seed 7   # the same ones again

Each is made of a right body of a random route, or of a recorded one: a value of tests/support/hostile.py in some place of it, a
place less, bytes changed or cut off, an odd header, path or method, or broken framing. The rules: no status of 500 or above but
an engine's or 503, no "internal error", no stall of the event loop beyond 250 ms, and every answer within the deadline.
What a client's request makes the engine do for long is left after that deadline, and counted.
"""

import argparse
import asyncio
import contextlib
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.soak import Server, fill, serving
from serow.server.routes import OPERATIONS
from tests.support.hostile import VALUES, places, with_value
from tests.support.samples import SAMPLES

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "exchanges.jsonl"
_SLOW = ("num_ctx", "keep_alive", "num_predict")  # changing them in most requests would only measure loads
DEADLINE = 5.0  # seconds until a client leaves
ENGINES = ("the engine ", "could not load the model", "the model did not load", "model requires more system memory")
FETCHING = ("/api/pull", "/api/push")
ODD_HEADERS = (
    b"Host: evil.example", b"Host: localhost\r\nHost: localhost", b"Origin: http://evil.example", b"Origin: null",
    b"Content-Encoding: gzip", b"Content-Encoding: br", b"Content-Encoding: zstd", b"Content-Type: text/\xff",
    b"Expect: 100-continue", b"Connection: Upgrade\r\nUpgrade: h2c", b"Connection: close", b"Authorization: Bearer \xff\xfe",
    b"X-Request-Id: \x7f" + b"x" * 99, b"Traceparent: 00-" + b"0" * 32, b"Accept: */*;q=" + b"9" * 500,
    b"Cookie: " + b"a=b; " * 500, b"X-Much: " + b"x" * 70_000, b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked", b"Content-Length: 99999999999999999999", b"Range: bytes=-",
)  # fmt: skip
ODD_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"TRACE", b"CONNECT")
ODD_PATHS = (
    "/", "//", "/api", "/api/", "/api//tags", "/api/blobs/..", "/api/blobs/sha256:xyz", "/api/blobs/%2e%2e%2f", "/%00",
    "/%ff", "/v1/models/%2e%2e", "/v1/models/" + "n" * 300, "/metrics", "/openapi.json", "/api/ps?verbose=%ff",
    "/api/version?" + "x" * 2000, "/v1/models?limit=" + "9" * 5000, "/v1/models?limit=%D9%A3",
    "http://evil.example/api/tags", "*", "/api/tags#x",
)  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """One request: `bytes_` as they go out, `path` as the answer is judged by."""

    path: str
    bytes_: bytes
    is_head: bool = False


@dataclass
class Tally:
    """What came of them."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    pings: list[float] = field(default_factory=list)  # seconds of GET /api/version meanwhile


def recorded() -> list[tuple[str, str, dict[str, Any]]]:
    """Bodies that clients sent, of routes that change nothing."""
    lines = map(json.loads, GOLDEN.read_text().splitlines())
    return [
        (each["method"], each["path"], each["body"])
        for each in lines
        if each["path"] in ("/api/generate", "/api/show") and isinstance(each.get("body"), dict)
    ]


class Crowd:
    """Makes up requests; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        operations = {operation.path: operation.method for operation in OPERATIONS}
        self._bodies = [(operations[path], path, body) for path, body in SAMPLES.items() if path in operations]
        self._recorded = recorded()
        self._ways: dict[Callable[[], Sent], int] = {
            self._place: 60,
            self._missing: 8,
            self._bytes: 12,
            self._header: 8,
            self._path: 8,
            self._framing: 4,
        }

    def next(self) -> Sent:
        """The next request."""
        (way,) = self._random.choices(list(self._ways), list(self._ways.values()))
        return way()

    def _body(self) -> tuple[str, str, dict[str, Any]]:
        """A right one that is quickly answered."""
        method, path, body = self._random.choice(self._bodies if self._random.random() < 0.7 else self._recorded)
        if path in ("/api/generate", "/api/chat"):
            options = body.get("options") if isinstance(body.get("options"), dict) else {}
            body = {**body, "model": "zoo-think", "options": {**(options or {}), "num_predict": 1}}
            if self._random.random() < 0.99:
                body.pop("keep_alive", None)
                body["options"].pop("num_ctx", None)
        elif path.startswith("/v1/") and path != "/v1/embeddings":
            body = {**body, "max_tokens": 1}
        return method, path, body

    def _hostile(self) -> tuple[str, str, bytes]:
        method, path, body = self._body()
        found = [place for place in places(body) if place]
        place = self._random.choice(found or [("model",)])
        if place[-1] in _SLOW and self._random.random() > 0.02:
            place = ("model",)
        return method, path, with_value(body, place, self._random.choice(list(VALUES.values())))

    def _place(self) -> Sent:
        return _post(*self._hostile())

    def _missing(self) -> Sent:
        method, path, body = self._body()
        names = list(body)
        kept = {name: body[name] for name in names if self._random.random() < 0.7 or name == "options"}
        return _post(method, path, json.dumps(kept).encode())

    def _bytes(self) -> Sent:
        method, path, data = self._hostile() if self._random.random() < 0.5 else self._encoded()
        where = self._random.randrange(len(data) + 1)
        junk = self._random.randbytes(self._random.randrange(8))
        return _post(method, path, data[:where] + junk + (data[where + len(junk) :] if self._random.random() < 0.7 else b""))

    def _encoded(self) -> tuple[str, str, bytes]:
        method, path, body = self._body()
        return method, path, json.dumps(body).encode()

    def _header(self) -> Sent:
        method, path, data = self._encoded()
        return _post(method, path, data, self._random.choice(ODD_HEADERS))

    def _path(self) -> Sent:
        method = self._random.choice(ODD_METHODS)
        path = self._random.choice((*ODD_PATHS, *(operation.path for operation in OPERATIONS)))
        line = b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}" % (method, path.encode())
        return Sent(path, line, is_head=method == b"HEAD")

    def _framing(self) -> Sent:
        method, path, data = self._encoded()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode()
        size = b"%x" % len(data)
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + size
        return Sent(
            path,
            self._random.choice(
                (
                    chunked + b"\r\n" + data + b"\r\n0\r\nHost: evil\r\n\r\n",
                    chunked + b";x=" + b"y" * 500 + b"\r\n" + data + b"\r\n0\r\n\r\n",
                    chunked + b"\r\n" + data[:-1] + b"\r\n0\r\n\r\n",
                    head + b"Content-Length: %d\r\n\r\n" % (len(data) - 1) + data,
                    head + b"Content-Length: -1\r\n\r\n" + data,
                    head + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n" + data,
                    self._random.randbytes(self._random.randrange(1, 300)) + b"\r\n\r\n",
                    b"GET / HTTP/1.0\r\n\r\n",
                )
            ),
        )


def _post(method: str, path: str, body: bytes, *headers: bytes) -> Sent:
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", b"Content-Length: %d" % len(body), *headers]
    return Sent(path, b"\r\n".join([*lines, b"", b""]) + body)


# Sending --------------------------------------------------------------------------------------------------------------


async def answer_of(reader: asyncio.StreamReader, sent: Sent) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection goes on."""
    head = await reader.readuntil(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    body = b""
    if b"\r\ntransfer-encoding: chunked" in lowered and not sent.is_head:
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    elif (length := re.search(rb"\r\ncontent-length: (\d+)", lowered)) and not sent.is_head:
        body = await reader.readexactly(int(length[1]))
    return int(head[9:12]), body, b"\r\nconnection: close" not in lowered


def judge(sent: Sent, status: int, body: bytes) -> str:
    """What is wrong with an answer, "" for nothing."""
    text = body.decode("utf-8", "replace")
    if "internal error" in text:
        return "a fault of ours"
    if status < 500 or status == 503:
        return ""
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        error = json.loads(text)["error"]
        words = error if isinstance(error, str) else error["message"]
        if words.startswith(ENGINES) or sent.path in FETCHING:
            return ""
    return f"status {status}: {text[:200]}"


async def ask(host: str, port: int, crowd: Crowd, tally: Tally, left: list[int]) -> None:
    """One client, with a connection as long as it lasts."""
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while left[0] > 0:
        left[0] -= 1
        sent = crowd.next()
        streams = streams or await asyncio.open_connection(host, port, limit=1 << 24)
        try:
            async with asyncio.timeout(DEADLINE):
                streams[1].write(sent.bytes_)
                status, body, goes_on = await answer_of(streams[0], sent)
            tally.statuses[str(status)] += 1
            if fault := judge(sent, status, body):
                tally.faults.append(f"{fault}\n    {sent.bytes_[:600]!r}")
        except TimeoutError:
            tally.statuses["left"] += 1
            goes_on = False
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            tally.statuses["closed"] += 1
            goes_on = False
        if not goes_on or sent.bytes_.count(b"HTTP/1.") != 1 or b"\r\nConnection: " in sent.bytes_ or sent.is_head:
            streams[1].close()
            streams = None


async def ping(host: str, port: int, tally: Tally) -> None:
    """Ask for the version ten times a second."""
    while True:
        begun = time.perf_counter()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await reader.read()
        tally.pings.append(time.perf_counter() - begun)
        writer.close()
        await asyncio.sleep(0.1)


async def stalls(host: str, port: int) -> int:
    """How often the server says that its loop was held."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    found = re.search(rb"^serow_loop_stall_seconds_count (\d+)", await reader.read(), re.M)
    writer.close()
    return int(found[1]) if found else 0


async def fuzz(server: Server, arguments: argparse.Namespace) -> int:
    """Let the crowd at the server; returns the exit status."""
    host, port = server.url.removeprefix("http://").split(":")
    tally, left, begun, before = Tally(), [arguments.requests], time.monotonic(), server.memory
    pinging = asyncio.create_task(ping(host, int(port), tally))
    crowds = [Crowd(arguments.seed + number) for number in range(arguments.clients)]
    await asyncio.gather(*(ask(host, int(port), crowd, tally, left) for crowd in crowds))
    pinging.cancel()
    seconds, num_stalls = time.monotonic() - begun, await stalls(host, int(port))
    pings = sorted(tally.pings)
    print(f"{tally.statuses.total()} requests in {seconds:.0f} s:", dict(sorted(tally.statuses.items())))
    print(f"GET /api/version meanwhile: p99 {1e3 * pings[len(pings) * 99 // 100]:.0f} ms, longest {1e3 * pings[-1]:.0f} ms")
    print(f"server memory: {before / 1e6:.0f} to {server.memory / 1e6:.0f} MB; stalls beyond 250 ms: {num_stalls}")
    for fault in tally.faults[:20]:
        print("BROKEN", fault)
    return 1 if tally.faults or num_stalls else 0


def main() -> int:
    """Parse the arguments, run, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz") as directory:
        root = Path(directory)
        fill(root / "models", has_pictures=False)
        with serving(root, SEROW_MAX_QUEUE="64") as server:
            status = asyncio.run(fuzz(server, arguments))
        if status:
            log = (root / "log").read_text(errors="replace").splitlines()
            print(*(line for line in log if " INFO " not in line and "refused the" not in line), sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
