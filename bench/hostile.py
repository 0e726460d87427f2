"""Clients that nobody would be: what they send, and how an answer to it is judged. `fuzz` and `soak` let them at a server."""

import asyncio
import contextlib
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serow.server.routes import OPERATIONS
from tests.support.hostile import VALUES, places, with_value, with_values
from tests.support.samples import SAMPLES

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "exchanges.jsonl"
_TEXTS = list(VALUES.values())
_KEYS = (
    "", "type", "role", "content", "text", "name", "arguments", "function", "parameters", "properties", "items", "enum", "$ref",
    "anyOf", "format", "model", "stop", "images", "id", "schema", "grammar", "image_url", "url", "__class__", "\ud800", "²",
)  # fmt: skip
_NAMES = (
    "zoo-think",
    "made",
    "nobody",
    "a/b/c:d",
    "%2e%2e",
    "%00",
    "n" * 300,
    "%F0%9F%98%80",
    "resp_1",
    "app.js",
    "sha256:" + "0" * 64,
)
_SLOW = ("num_ctx", "keep_alive", "num_predict")  # changing them in most requests would only measure loads
DEADLINE = 5.0  # seconds until a client leaves
ENGINES = ("the engine ", "could not load the model", "the model did not load", "model requires more system memory")
FETCHING = ("/api/pull", "/api/push", "/api/create")  # what is not there may be said with a status above 499
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


def recorded() -> list[tuple[str, str, dict[str, Any]]]:
    """Bodies that clients sent, of routes that change nothing."""
    lines = map(json.loads, GOLDEN.read_text().splitlines())
    return [
        (each["method"], each["path"], each["body"])
        for each in lines
        if each["path"] in ("/api/generate", "/api/show") and isinstance(each.get("body"), dict)
    ]


class Crowd:
    """Makes up requests; the same seed makes the same ones. `heavy` in a hundred are large, or work for hours if they may."""

    def __init__(self, seed: int, *, heavy: int = 0) -> None:
        self._random = random.Random(seed)
        operations = {operation.path: operation.method for operation in OPERATIONS}
        self._bodies = [(operations[path], path, body) for path, body in SAMPLES.items() if path in operations]
        self._recorded = recorded()
        self._ways: dict[Callable[[], Sent], int] = {
            self._place: 40,
            self._places: 20,
            self._missing: 8,
            self._bytes: 12,
            self._header: 8,
            self._path: 8,
            self._framing: 4,
            self._form: 2,
            self._heavy: heavy,
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
        return method, path, with_value(body, place, self._random.choice(_TEXTS))

    def _place(self) -> Sent:
        return post(*self._hostile())

    def _places(self) -> Sent:
        """Values that were made up, in some places that are not in one another."""
        method, path, body = self._body()
        texts: dict[tuple[str | int, ...], str] = {}
        for _ in range(self._random.randrange(1, 4)):
            place = self._random.choice([place for place in places(body) if place] or [("model",)])
            if place[-1] not in _SLOW and not any(each[: len(place)] == place[: len(each)] for each in texts):
                texts[place] = self._made_up(3)
        return post(method, path, with_values(body, texts))

    def _made_up(self, levels: int) -> str:
        """JSON of a few levels, with odd values at its ends."""
        kind, number = self._random.random(), self._random.randrange(5)
        if levels == 0 or kind < 0.4:
            return self._random.choice(_TEXTS)
        if kind < 0.6:
            return "[" + ", ".join(self._made_up(levels - 1) for _ in range(number)) + "]"
        members = (f"{json.dumps(self._random.choice(_KEYS))}: {self._made_up(levels - 1)}" for _ in range(number))
        return "{" + ", ".join(members) + "}"

    def _missing(self) -> Sent:
        method, path, body = self._body()
        names = list(body)
        kept = {name: body[name] for name in names if self._random.random() < 0.7 or name == "options"}
        return post(method, path, json.dumps(kept).encode())

    def _bytes(self) -> Sent:
        method, path, data = self._hostile() if self._random.random() < 0.5 else self._encoded()
        where = self._random.randrange(len(data) + 1)
        junk = self._random.randbytes(self._random.randrange(8))
        return post(method, path, data[:where] + junk + (data[where + len(junk) :] if self._random.random() < 0.7 else b""))

    def _encoded(self) -> tuple[str, str, bytes]:
        method, path, body = self._body()
        return method, path, json.dumps(body).encode()

    def _header(self) -> Sent:
        method, path, data = self._encoded()
        return post(method, path, data, self._random.choice(ODD_HEADERS))

    def _path(self) -> Sent:
        method = self._random.choice(ODD_METHODS)
        path = self._random.choice((*ODD_PATHS, *(operation.path for operation in OPERATIONS)))
        path = re.sub(r"\{\w+\}", lambda _: self._random.choice(_NAMES), path)
        line = b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}" % (method, path.encode())
        return Sent(path, line, is_head=method == b"HEAD")

    def _form(self) -> Sent:
        """A form, as /v1/images/edits takes it, or the bytes of a file."""
        junk = self._random.randbytes(self._random.randrange(200))
        if self._random.random() < 0.3:
            return post("POST", f"/api/blobs/{self._random.choice(_NAMES)}", junk)
        value = self._random.choice((junk, b"zoo-think", b"64x64", self._random.choice(_TEXTS).encode()))
        name = self._random.choice((b"model", b"image", b"image[]", b"prompt", b"n", b"size", b"x" * 300, b'"', b"\xff"))
        part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n' % (
            name,
            self._random.choice((b"", b'; filename="a"')),
        )
        end = self._random.choice((b"\r\n--b--\r\n", b"\r\n--b\r\n", b"", b"\r\n--b\r\n\r\n\r\n--b--"))
        kind = self._random.choice((b"; boundary=b", b"", b"; boundary=", b"; boundary=" + b"b" * 500))
        form = part.replace(name, b"model") + b"zoo-think\r\n" + part + value + end
        return post("POST", "/v1/images/edits", form, b"Content-Type: multipart/form-data" + kind)

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

    def _heavy(self) -> Sent:
        body: dict[str, Any] = {"model": "zoo-think", "prompt": "x", "stream": False, "options": {"num_predict": 4}}
        start = json.dumps(body).encode()[:-1]
        bodies: tuple[Callable[[], bytes], ...] = (
            lambda: start + b', "x": [' + b"{}," * 5_000_000 + b"0]}",
            lambda: start + b', "x": [' + b"1," * 5_000_000 + b"0]}",
            lambda: start + b', "x": "' + b"\\n" * 8_000_000 + b'"}',
            lambda: start + b', "x": "' + b"x" * 20_000_000 + b'"}',
            lambda: start + b', "model": "' + b" " * 10_000_000 + b'zoo-think"}',
            lambda: json.dumps({**body, "keep_alive": "0s" * 200_000}).encode(),
            lambda: json.dumps({**body, "options": {"stop": [str(number) for number in range(500_000)]}}).encode(),
            lambda: json.dumps({**body, "format": _doubling(40)}).encode(),
            lambda: json.dumps({**body, "format": {"type": "integer", "multipleOf": 9_999_991}}).encode(),
            lambda: json.dumps({**body, "format": {"grammar": "\n" * 19_900 + 'root ::= "x"'}}).encode(),
            lambda: json.dumps({**body, "template": "{{ range .Messages }}" * 500 + "{{ end }}" * 500}).encode(),
        )
        sent = post("POST", "/api/generate", self._random.choice(bodies)())
        return Sent(sent.path, sent.bytes_[:-1]) if self._random.random() < 0.2 else sent  # one in five never ends


def _doubling(levels: int) -> dict[str, Any]:
    """A small schema that takes twice as long to check with every level."""
    definitions = {f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(levels)}
    return {"not": {"$ref": "#/$defs/d0"}, "enum": [7], "$defs": {**definitions, f"d{levels}": {"type": "string"}}}


def post(method: str, path: str, body: bytes, *headers: bytes) -> Sent:
    """A request with a body."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", b"Content-Length: %d" % len(body), *headers]
    return Sent(path, b"\r\n".join([*lines, b"", b""]) + body)


# Sending --------------------------------------------------------------------------------------------------------------


async def answer_of(reader: asyncio.StreamReader, *, is_head: bool = False) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection goes on."""
    head = await reader.readuntil(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    body = b""
    if b"\r\ntransfer-encoding: chunked" in lowered and not is_head:
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    elif (length := re.search(rb"\r\ncontent-length: (\d+)", lowered)) and not is_head:
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


async def harass(host: str, port: int, crowd: Crowd) -> tuple[str, str]:
    """Send one request on a connection of its own; how it ended, and the words of a fault."""
    sent = crowd.next()
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
    try:
        async with asyncio.timeout(DEADLINE):
            writer.write(sent.bytes_)
            status, body, _ = await answer_of(reader, is_head=sent.is_head)
    except TimeoutError:
        return "cancelled", ""
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        return "refused", ""  # what is no HTTP may be closed without a word
    finally:
        writer.close()
    fault = judge(sent, status, body)
    return ("lost", f"{fault} {sent.bytes_[:300]!r}") if fault else ("answered" if status < 400 else "refused", "")


async def pinged(host: str, port: int) -> float:
    """Seconds of GET /api/version on a connection of its own."""
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    await reader.read()
    writer.close()
    return time.perf_counter() - begun


def worst_of_hundred(seconds: list[float]) -> float:
    """The ninety-ninth percentile."""
    return sorted(seconds)[len(seconds) * 99 // 100] if seconds else 0.0
