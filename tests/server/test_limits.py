"""Limits on requests and connections, at a server whose limits are small."""

import base64
import io
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.server import everything, running_server

DEADLINE = 20  # seconds
TIMEOUT = 1.0  # seconds, of the server's reading and writing
HEADER, BODY, CONNECTIONS = 8192, 100_000, 12
LIMITS = {
    "SEROW_MAX_HEADER": str(HEADER),
    "SEROW_MAX_BODY": str(BODY),
    "SEROW_MAX_IMAGES": "2",
    "SEROW_MAX_PIXELS": "10000",
    "SEROW_MAX_PROMPT": "1000",
    "SEROW_MAX_CONNECTIONS": str(CONNECTIONS),
    "SEROW_READ_TIMEOUT": f"{TIMEOUT}s",
    "SEROW_WRITE_TIMEOUT": f"{TIMEOUT}s",
}


@pytest.fixture(scope="module")
def strict(models: Path) -> Iterator[str]:
    """The base URL of a server with small limits."""
    with running_server(models, **LIMITS) as url:
        yield url


@pytest.fixture
def client(strict: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=strict, timeout=DEADLINE) as client:
        yield client


def connect(url: str, **options: int) -> socket.socket:
    """A bare connection; `receive_buffer` in bytes."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.socket()
    if "receive_buffer" in options:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options["receive_buffer"])
    connection.settimeout(DEADLINE)
    connection.connect((host, int(port)))
    return connection


def until(connection: socket.socket, end: bytes) -> bytes:
    """What comes up to `end`."""
    data = b""
    while not data.endswith(end):
        part = connection.recv(65536)
        assert part, "the connection ended"
        data += part
    return data


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *headers]
    if not any(header.startswith("Transfer-Encoding") for header in headers):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def picture(width: int, height: int) -> str:
    out = io.BytesIO()
    Image.new("1", (width, height)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"prompt": "x" * 1001}, '"prompt" holds 1001 characters, more than the 1000 allowed'),
        ({"system": "x" * 1001}, '"system" holds 1001 characters, more than the 1000 allowed'),
        ({"template": "x" * 1001}, '"template" holds 1001 characters, more than the 1000 allowed'),
        ({"suffix": "é" * 1001}, '"suffix" holds 1001 characters, more than the 1000 allowed'),
        ({"context": [1] * 1001}, '"context" holds 1001 tokens, more than the 1000 allowed'),
        ({"images": ["x"] * 3}, '"images" holds 3 pictures, more than the 2 allowed'),
        ({"images": [picture(101, 100)]}, "image 0 has 101x100 pixels, more than 10,000"),
        ({"format": {"properties": {str(number): {} for number in range(5000)}}}, "invalid format"),
    ],
)
@pytest.mark.req("RES-05")
def test_what_a_request_holds_too_much_of_is_a_400(client: httpx.Client, body: dict[str, Any], error: str) -> None:
    answer = client.post("/api/generate", json={"model": "zoo-vision", "prompt": "x", "options": {"num_predict": 1}, **body})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(error)


@pytest.mark.req("RES-05")
@pytest.mark.parametrize("path", ["/api/generate", "/api/show", "/api/create", "/api/pull"])
def test_a_body_over_its_limit_is_a_413_whether_or_not_it_says_its_length(client: httpx.Client, path: str) -> None:
    body = json.dumps({"model": "x" * BODY}).encode()
    for content in (body, iter([body[:50_000], body[50_000:]])):
        answer = client.post(path, content=content)
        assert (answer.status_code, answer.json()) == (413, {"error": f"the request body is larger than {BODY} bytes"})


def test_a_body_that_lies_about_its_length_is_refused_before_it_comes(strict: str) -> None:
    with connect(strict) as connection:
        connection.sendall(post("/api/generate", b"{", length=10**15))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("size, status", [(HEADER - 1000, 200), (HEADER, 431)])
def test_headers_over_their_limit_are_a_431(client: httpx.Client, size: int, status: int) -> None:
    assert client.get("/api/version", headers={"X-Much": "x" * size}).status_code == status
    assert client.get(f"/api/version?{'x' * size}").status_code == status


def test_many_small_headers_count_together(client: httpx.Client) -> None:
    answer = client.get("/api/version", headers={f"X-{number}": "" for number in range(1000)})
    assert answer.json() == {"error": f"the request line and headers are larger than {HEADER} bytes"}


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX-Much: ", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100])
def test_headers_without_end_are_cut_off(strict: str, start: bytes) -> None:
    with connect(strict) as connection:
        connection.sendall(start)
        try:
            for _ in range(1000):
                connection.sendall(b"x" * 10_000)
        except (BrokenPipeError, ConnectionResetError):
            return
        pytest.fail("ten megabytes of headers were taken")


@pytest.mark.parametrize(
    "start",
    [
        b"GET /api/tags HT",
        post("/api/generate", b'{"model":', length=100),
        post("/api/generate", b"5\r\n{    \r\n", "Transfer-Encoding: chunked"),
        post("/api/blobs/sha256:" + "0" * 64, b"GGUF", length=100),
    ],
    ids=["head", "body", "chunks", "blob"],
)
def test_a_request_that_does_not_come_to_its_end_is_a_408(strict: str, start: bytes) -> None:
    begin = time.monotonic()
    with connect(strict) as connection:
        connection.sendall(start)
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 408 ") and answer.endswith(b'{"error": "the request came too slowly"}')
    assert TIMEOUT * 0.9 < time.monotonic() - begin < TIMEOUT + 5


def test_a_body_that_trickles_is_a_408(strict: str) -> None:
    with connect(strict) as connection:
        connection.sendall(post("/api/generate", b"{", length=1000))
        connection.settimeout(0.1)
        for _ in range(100):
            connection.sendall(b" ")
            try:
                assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")
                return
            except TimeoutError:
                pass
        pytest.fail("the server waited for ever")


def test_a_connection_that_says_nothing_is_closed(strict: str) -> None:
    with connect(strict) as connection:
        assert everything(connection) == b""


def test_a_body_refused_before_it_came_does_not_hold_the_connection(strict: str) -> None:
    with connect(strict) as connection:
        connection.sendall(post("/api/generate", b"{", length=10**9))
        assert b" 413 " in everything(connection).splitlines()[0]


@pytest.mark.parametrize("rest", [b"x" * 100, b"x" * 99 + b"\r\n", b""], ids=["body", "body and more", "nothing"])
def test_a_connection_whose_body_came_after_its_answer_is_closed(strict: str, rest: bytes) -> None:
    with connect(strict) as connection:
        connection.sendall(post("/no/such/page", b"", length=100))
        until(connection, b"404 page not found")
        connection.sendall(rest)
        assert everything(connection) == b""


def test_line_breaks_between_requests_do_not_keep_a_connection_open(strict: str) -> None:
    with connect(strict) as connection:
        connection.sendall(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(connection, b"}")
        connection.sendall(b"\r\n")
        assert everything(connection) == b""


def test_two_requests_on_one_connection_are_both_answered(strict: str) -> None:
    with connect(strict) as connection:
        connection.sendall(post("/api/show", b'{"model": "x"}') + post("/api/show", b'{"model": "y"}', "Connection: close"))
        assert re.findall(rb"model '(\w)", everything(connection)) == [b"x", b"y"]


def test_a_client_that_reads_slowly_but_reads_gets_everything(client: httpx.Client) -> None:
    body = {"model": "zoo-think", "prompt": "What is 1 + 1?", "options": {"num_predict": 50}}
    with client.stream("POST", "/api/generate", json=body) as answer:
        last = [json.loads(line) for line in answer.iter_lines()][-1]
    assert last["done"] is True


def running(client: httpx.Client) -> int:
    return sum(model["num_running"] for model in client.get("/api/ps", params={"verbose": "1"}).json()["models"])


def eventually(client: httpx.Client, number: int) -> None:
    """Until so many requests run."""
    end = time.monotonic() + DEADLINE
    while running(client) != number:
        assert time.monotonic() < end, "it never came"


@pytest.mark.req("LIFE-05")
def test_a_client_that_reads_nothing_is_dropped_and_its_work_stops(strict: str, client: httpx.Client) -> None:
    wide = {"temperature": 0, "num_predict": 1500, "num_ctx": 2048}
    body = {"model": "zoo-think", "prompt": "x", "raw": True, "logprobs": True, "top_logprobs": 20, "options": wide}
    with connect(strict, receive_buffer=4096) as connection:
        connection.sendall(post("/api/generate", json.dumps(body).encode()))
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        eventually(client, 1)
        eventually(client, 0)
        assert b'"done":true' not in everything(connection)


def test_connections_beyond_the_limit_get_a_503_and_a_place_once_others_leave(strict: str) -> None:
    with ExitStack() as others:
        for _ in range(CONNECTIONS):
            others.enter_context(connect(strict))
        refused = version(strict)
    assert refused.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1\r\n" in refused
    assert refused.endswith(b'{"error": "server busy, please try again: too many connections"}')
    end = time.monotonic() + DEADLINE
    while not version(strict).startswith(b"HTTP/1.1 200 "):
        assert time.monotonic() < end, "no place ever came"


def version(url: str) -> bytes:
    """The answer to GET /api/version on a connection of its own."""
    with connect(url) as connection:
        connection.sendall(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return everything(connection)
