"""Bytes on a connection: which of them are a request, its body or neither (RES-05, RES-07)."""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.support.server import Served, everything, served

DEADLINE = 20  # seconds
HEADER = 8192
CONNECTIONS = 8
VERSION = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA")
UPGRADES = {
    "h2c": H2C,
    "websocket": ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="),
    "tls": ("Connection: upgrade", "Upgrade: TLS/1.0"),
    "several": ("Connection: keep-alive, Upgrade", "Upgrade: foo/2, h2c"),
}
offers = pytest.mark.parametrize("offer", UPGRADES.values(), ids=UPGRADES)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server without models that bounds its heads tightly."""
    limits = {"SEROW_MAX_HEADER": str(HEADER), "SEROW_MAX_CLIENT_CONNECTIONS": str(CONNECTIONS), "SEROW_API_KEYS": "sesame"}
    with served(tmp_path_factory.mktemp("empty"), **limits) as server:
        yield server


def connect(server: Served, source: str = "127.0.0.1") -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), DEADLINE, (source, 0))


def talk(server: Served, *packets: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer to what is sent in packets, the last of which asks to close."""
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # cut off: what came before counts
            for packet in packets:
                connection.sendall(packet)
        said = everything(connection)
    found = []
    while said:
        head, _, rest = said.partition(b"\r\n\r\n")
        length = int((re.search(rb"content-length: (\d+)", head) or [b"", b"0"])[1])
        found.append((int(head[9:12]), rest[:length]))
        said = rest[length:]
    return found


def post(body: bytes, *headers: str, path: str = "/api/show", host: str = "Host: localhost") -> bytes:
    lines = [f"POST {path} HTTP/1.1", host, "Authorization: Bearer sesame", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def closing(body: bytes, *headers: str) -> bytes:
    return post(body, *headers).replace(b"Connection: ", b"Connection: close, ")


@pytest.mark.req("RES-07")
@offers
@pytest.mark.parametrize("num_packets", [1, 2, 0], ids=["one packet", "two packets", "single bytes"])
def test_the_body_of_a_request_that_offers_an_upgrade_is_its_body(
    process: Served, offer: tuple[str, ...], num_packets: int
) -> None:
    request = closing(b'{"model": "nobody"}', *offer)
    cut = request.index(b"\r\n\r\n") + 4
    packets = {1: [request], 2: [request[:cut], request[cut:]], 0: [bytes([byte]) for byte in request]}[num_packets]
    assert talk(process, *packets) == [(404, b'{"error":"model \'nobody:latest\' not found"}')]


@pytest.mark.req("RES-07")
@offers
@pytest.mark.parametrize("is_split", [True, False])
def test_no_byte_of_a_body_is_read_as_a_request(process: Served, offer: tuple[str, ...], is_split: bool) -> None:
    request = closing(VERSION, *offer)
    cut = request.index(VERSION) if is_split else len(request)
    ((status, body),) = talk(process, request[:cut], request[cut:])
    assert status == 400 and b"not valid JSON" in body


@pytest.mark.req("RES-07")
@offers
def test_a_chunked_body_behind_an_offer_is_read_too(process: Served, offer: tuple[str, ...]) -> None:
    head = closing(b"", *offer, "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    answers = talk(process, head + b'13\r\n{"model": "nobody"}\r\n0\r\n\r\n')
    assert [status for status, _ in answers] == [404]


@pytest.mark.req("RES-07")
def test_requests_before_and_behind_an_offer_are_answered_in_their_order(process: Served) -> None:
    offered = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    body = b'{"model": "x"}'
    answers = talk(process, VERSION + offered + post(body) + closing(body, "Connection: keep-alive"))
    assert [status for status, _ in answers] == [200, 200, 404, 404]


@pytest.mark.req("RES-07")
@pytest.mark.parametrize("trailer", ["Host: evil.example", "Host: localhost", "Authorization: Bearer sesame", "Origin: null"])
def test_a_trailer_is_no_header(process: Served, trailer: str) -> None:
    head = "POST /api/show HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    for key, status in (("", 401), ("Authorization: Bearer sesame\r\n", 404)):
        body = f'13\r\n{{"model": "nobody"}}\r\n0\r\n{trailer}\r\n\r\n'
        assert [each for each, _ in talk(process, (head + key + "\r\n" + body).encode())] == [status]


@pytest.mark.parametrize("key", ["", "Authorization: Bearer sesame\r\n"], ids=["without a key", "with a key"])
@pytest.mark.parametrize(
    "endless", [b"a: b\r\n" * 2000, b"a: " + b"x" * 10_000, b"0" * 10_000], ids=["trailers", "one trailer", "a size"]
)
def test_what_frames_a_body_has_an_end_and_is_not_kept(process: Served, key: str, endless: bytes) -> None:
    before = psutil.Process(process.process.pid).memory_info().rss
    head = f"POST /api/show HTTP/1.1\r\nHost: localhost\r\n{key}Transfer-Encoding: chunked\r\n\r\n"
    with connect(process) as connection:
        connection.sendall(head.encode() + (b"" if endless.startswith(b"0") else b"0\r\n"))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(4000):
                connection.sendall(endless)
    assert psutil.Process(process.process.pid).memory_info().rss - before < 8 << 20


@pytest.mark.req("RES-05")
@pytest.mark.parametrize("size", [100, 100_000, 300_000])
def test_a_body_and_the_beginning_of_the_next_request_in_one_burst_are_answered(process: Served, size: int) -> None:
    body = json.dumps({"model": "nobody", "x": "y" * size}).encode()
    answers = talk(process, post(body) + VERSION[:20], VERSION[20:-2] + b"Connection: close\r\n\r\n")
    assert [status for status, _ in answers] == [404, 200]


@pytest.mark.parametrize(("number", "are_answered"), [(60, True), (5000, False)])
def test_few_requests_may_be_sent_ahead(process: Served, number: int, are_answered: bool) -> None:
    last = VERSION.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answers = talk(process, VERSION * number + last)
    assert (len(answers) == number + 1) is are_answered
    assert {status for status, _ in answers} <= {200}


def test_the_next_request_s_endless_head_is_bounded_too(process: Served) -> None:
    with connect(process) as connection:
        connection.sendall(VERSION + b"GET / HTTP/1.1\r\nX-Much: ")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(1000):
                connection.sendall(b"x" * 10_000)


HOSTS = {
    "two": ("POST", "/api/show", ["Host: localhost", "Host: localhost"], 400),
    "two that differ": ("POST", "/api/show", ["Host: a", "Host: localhost"], 400),
    "none": ("GET", "/api/version", [], 400),
    "a user": ("GET", "/api/version", ["Host: evil@localhost"], 403),
    "a user and a port": ("GET", "/api/version", ["Host: localhost:80@evil.example"], 403),
    "a path": ("GET", "/api/version", ["Host: localhost/evil"], 403),
    "a list": ("GET", "/api/version", ["Host: localhost, evil"], 403),
    "empty": ("GET", "/api/version", ["Host: "], 403),
    "another's name in the network": ("GET", "/api/version", ["Host: evil.local", "Origin: http://evil.local"], 403),
    "another's name in the company": ("GET", "/api/version", ["Host: evil.internal"], 403),
    "absolute, another authority": ("GET", "http://evil.example/api/version", ["Host: localhost"], 403),
    "absolute, another user": ("GET", "http://evil@localhost/api/version", ["Host: localhost"], 403),
    "absolute, the same": ("GET", "http://localhost/api/version", ["Host: localhost"], 200),
    "absolute, Host foreign": ("GET", "http://localhost/api/version", ["Host: evil.example"], 200),
    "this machine": ("GET", "/api/version", [f"Host: {socket.gethostname()}.local"], 200),
    "from a container": ("GET", "/api/version", ["Host: host.docker.internal:11434"], 200),
    "with a dot": ("GET", "/api/version", ["Host: localhost.:11434"], 200),
}


@pytest.mark.req("RES-05")
@pytest.mark.parametrize(("method", "target", "headers", "status"), HOSTS.values(), ids=HOSTS)
def test_who_is_asked_is_said_once_and_is_this_machine(
    process: Served, method: str, target: str, headers: list[str], status: int
) -> None:
    request = "\r\n".join([f"{method} {target} HTTP/1.1", *headers, "Connection: close", "", ""]).encode()
    ((found, body),) = talk(process, request)
    assert found == status
    assert bool(body) is (status != 403)


@pytest.mark.req("RES-05")
@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", b"no proxy"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"not valid HTTP"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"not valid HTTP"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"not valid HTTP"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"not valid HTTP"),
    ],
)
def test_what_is_no_request_for_us_is_told_so(process: Served, request_: bytes, words: bytes) -> None:
    ((status, body),) = talk(process, request_)
    assert status == 400 and words in json.loads(body)["error"].encode()


@pytest.mark.req("RES-05")
@pytest.mark.parametrize("behind", [b"garbage\r\n\r\n", b"\x16\x03\x01", b"GET / HTTP/9.9\r\n\r\n"])
@pytest.mark.parametrize("num_packets", [1, 2])
def test_what_is_no_request_takes_no_answer_from_those_before_it(process: Served, behind: bytes, num_packets: int) -> None:
    """A client that counts characters for its Content-Length leaves bytes of its body behind the request.

    In a packet of their own they may come when nothing is to be answered any more, and are refused.
    """
    requests = VERSION + post(b'{"model": "nobody"}')
    packets = [requests + behind] if num_packets == 1 else [requests, behind]
    assert [status for status, _ in talk(process, *packets)] in ([200, 404], [200, 404, 400][: 1 + num_packets])


@pytest.mark.req("RES-05")
@pytest.mark.parametrize(
    ("header", "status", "words"),
    [
        ("Transfer-Encoding: gzip, chunked", 415, b"Transfer-Encoding can only be chunked"),
        ("Transfer-Encoding: chunked\r\nOrigin: http://evil.example\r\nOrigin: http://localhost", 400, b"one Origin"),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(process: Served, header: str, status: int, words: bytes) -> None:
    head = (
        f"POST /api/show HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\nConnection: close\r\n{header}\r\n\r\n"
    )
    ((answered, body),) = talk(process, head.encode() + b'13\r\n{"model": "nobody"}\r\n0\r\n\r\n')
    assert answered == status and words in body


def test_slashes_that_a_base_address_leaves_are_one(process: Served) -> None:
    for path in ("//api/version", "/api//version", "///api/version"):
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        assert [status for status, _ in talk(process, request)] == [200]


@pytest.mark.parametrize("path", ["//api/create", "/api//create", "//api//create", "/api/create/"])
def test_slashes_open_no_route_that_asks_for_a_key(process: Served, path: str) -> None:
    request = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode()
    assert [status for status, _ in talk(process, request)] == [401]


def test_one_address_can_not_hold_all_connections(process: Served) -> None:
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(connect(process))
        request = VERSION.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        assert [status for status, _ in talk(process, request)] == [503]
        with connect(process, "127.0.0.2") as other:
            other.sendall(request)
            assert everything(other).startswith(b"HTTP/1.1 200 ")


def test_who_asks_is_who_connects_whatever_a_header_says(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    head = "GET /api/version HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n\r\n"
    with served(tmp_path) as server:
        assert [status for status, _ in talk(server, head.encode())] == [200]
    assert "client=127.0.0.1 " in capfd.readouterr().err
