"""What a connection speaks: old clients get what they can read."""

import json
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.support.server import running_server

DEADLINE = 30  # seconds


def ask(url: str, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of what comes until the server ends the connection."""
    host, port = url.removeprefix("http://").split(":")
    data = bytearray()
    with socket.create_connection((host, int(port)), DEADLINE) as connection:
        connection.sendall(request)
        while part := connection.recv(65536):
            data += part
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    return head.lower(), body


@pytest.mark.parametrize("stream", [True, False])
def test_http_1_0_gets_no_chunks(server: str, stream: bool) -> None:
    body = json.dumps({"model": "zoo-think", "prompt": "Hi", "stream": stream, "options": {"num_predict": 3}}).encode()
    head, answer = ask(server, b"POST /api/generate HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    assert b"transfer-encoding" not in head
    assert (b"content-length" in head) is not stream
    assert json.loads(answer.splitlines()[-1])["done"] is True


@pytest.mark.parametrize("method, length", [(b"GET", 17), (b"HEAD", 0)])
def test_http_1_0_gets_a_body_of_known_length(server: str, method: bytes, length: int) -> None:
    head, body = ask(server, method + b" / HTTP/1.0\r\n\r\n")
    assert b"content-length: 17" in head
    assert len(body) == length


def test_a_refused_method_names_those_that_are_allowed(server: str) -> None:
    response = httpx.put(f"{server}/api/generate", timeout=DEADLINE)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_requests_sent_ahead_are_held_within_the_sum_of_all_bodies(tmp_path: Path) -> None:
    with running_server(tmp_path, SEROW_MAX_IN_FLIGHT="100000") as url, ExitStack() as stack:
        host, port = url.removeprefix("http://").split(":")
        first = b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n" + b" " * 20
        ahead = b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nX: %s\r\nContent-Length: 30000\r\n\r\n" % (b"x" * 20_000)
        connection = stack.enter_context(socket.create_connection((host, int(port)), DEADLINE))
        connection.sendall(first + ahead + b" " * 30_000 + ahead + b" " * 30_000)
        data = bytearray()
        with suppress(ConnectionResetError):
            while part := connection.recv(65536):
                data += part
        assert b"sent ahead hold too many bytes" in data or data.count(b"HTTP/1.1 ") < 3
        assert httpx.get(f"{url}/api/version", timeout=DEADLINE).status_code == 200


def test_requests_sent_ahead_are_all_answered_in_turn(server: str) -> None:
    one = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n" % (b"x" * 9000)
    last = one.replace(b"X: ", b"Connection: close\r\nX: ")
    head, body = ask(server, one * 59 + last)
    assert (head + body).count(b"http/1.1 200 ok") + body.count(b"HTTP/1.1 200 OK") == 60


def test_a_connection_that_rests_for_as_long_as_clients_keep_theirs_answers_again(server: str) -> None:
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), DEADLINE) as connection:
        assert version_by(connection).startswith(b"HTTP/1.1 200 ")
        connection.settimeout(5.5)  # httpx closes its own after 5 seconds: we must not be the first
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(DEADLINE)
        assert version_by(connection).startswith(b"HTTP/1.1 200 ")


def version_by(connection: socket.socket) -> bytes:
    """The whole answer to a request for the version."""
    connection.sendall(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
    data = b""
    while not data.endswith(b"}"):
        part = connection.recv(65536)
        assert part, "the server closed the connection"
        data += part
    return data
