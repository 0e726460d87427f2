"""Bodies of requests: packed or plain, bounded each and together (RES-05, RES-07)."""

import gzip
import hashlib
import json
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import backports.zstd
import httpx
import pytest
from starlette.requests import Request

from serow.errors import RequestError, Unavailable
from serow.server.app import create_app
from serow.server.body import content, decoded
from serow.server.exchange import Exchange
from serow.server.in_flight import InFlight
from serow.settings import Settings

BODY = 1 << 20


def deflate_bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "in capitals": ("GZIP", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "two members": ("gzip", lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:])),
    "deflate": ("deflate", zlib.compress),
    "deflate, bare": ("deflate", deflate_bare),
    "zstd": ("zstd", backports.zstd.compress),
    "two frames": ("zstd", lambda data: backports.zstd.compress(data[:7]) + backports.zstd.compress(data[7:])),
    "identity": ("identity", bytes),
}
codings = pytest.mark.parametrize(("coding", "pack"), CODINGS.values(), ids=CODINGS)
packed = pytest.mark.parametrize(
    ("coding", "pack"),
    [row for row in CODINGS.values() if row[0] != "identity"],
    ids=[key for key in CODINGS if key != "identity"],
)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that takes bodies of a megabyte."""
    app = create_app(Settings(models=tmp_path, max_body=BODY))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        yield client


async def show(client: httpx.AsyncClient, body: bytes, coding: str) -> tuple[int, Any]:
    answer = await client.post("/api/show", content=body, headers={"Content-Encoding": coding})
    return answer.status_code, answer.json()["error"]


@pytest.mark.req("RES-07")
@codings
async def test_a_packed_body_is_read_as_the_plain_one(
    client: httpx.AsyncClient, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    assert await show(client, pack(b'{"model": "nobody"}'), coding) == (404, "model 'nobody:latest' not found")


@pytest.mark.req("RES-07")
@packed
async def test_a_body_is_bounded_after_it_is_unpacked(
    client: httpx.AsyncClient, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    bomb = pack(b" " * (256 << 20))
    assert len(bomb) < BODY
    assert await show(client, bomb, coding) == (413, f"the request body is larger than {BODY} bytes")


@pytest.mark.req("RES-07")
@packed
async def test_a_packed_body_that_is_cut_off_or_broken_is_a_400(
    client: httpx.AsyncClient, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    body = pack(json.dumps({"model": "nobody", "x": list(range(1000))}).encode())
    status, error = await show(client, body[:-5], coding)
    assert (status, error) == (400, f"the request body ends in the middle of its {coding.lower()} data")
    for broken in (body[:20] + b"\xff" * 50 + body[70:], b"{}" * 10):
        status, error = await show(client, broken, coding)
        assert status == 400 and error.startswith("the request body ")


def empty_blocks(number: int) -> bytes:
    """One gzip member that holds nothing for a long time."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(b"{") + packer.flush(zlib.Z_FULL_FLUSH) + b"\0\0\0\xff\xff" * number


@pytest.mark.req("RES-07")
@pytest.mark.parametrize(
    ("coding", "body", "status", "words"),
    [
        ("gzip", gzip.compress(b"") * 200_000, 400, "the packed request body holds 1001 members or frames of less than a KiB"),
        ("gzip", gzip.compress(b" ") * 40_000, 400, "the packed request body holds 1001 members or frames of less than a KiB"),
        ("zstd", backports.zstd.compress(b"") * 90_000, 400, "the packed request body holds 1001 members or frames"),
        ("zstd", b"\x50\x2a\x4d\x18\0\0\0\0" * 90_000, 400, "the packed request body holds 1001 members or frames"),
        ("gzip", empty_blocks(300_000), 413, "the request body is larger than 1048576 bytes"),
        ("gzip", gzip.compress(b" " * 1024) * 900 + gzip.compress(b'{"model": "nobody"}'), 404, "model 'nobody:latest'"),
    ],
    ids=["empty members", "small members", "empty frames", "skipped frames", "empty blocks", "whole members"],
)
async def test_what_packs_little_in_much_is_refused_at_once(
    client: httpx.AsyncClient, coding: str, body: bytes, status: int, words: str
) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 64 << 10):
            yield body[start : start + (64 << 10)]

    begun = time.monotonic()
    answer = await client.post("/api/show", content=parts(), headers={"Content-Encoding": coding})
    assert (answer.status_code, answer.json()["error"][: len(words)]) == (status, words)
    assert time.monotonic() - begun < 2


@pytest.mark.req("RES-07")
@pytest.mark.parametrize("coding", ["br", "compress", "gzip, gzip", "aws-chunked", "x" * 1000, "\x80"])
async def test_another_coding_is_a_415_that_says_what_to_send(client: httpx.AsyncClient, coding: str) -> None:
    answer = await client.post("/api/show", content=b"{}", headers=[(b"Content-Encoding", coding.encode("latin-1"))])
    assert answer.status_code == 415
    assert answer.json()["error"].endswith(" is not understood: send gzip, deflate, zstd, or the plain body")


@packed
async def test_an_upload_is_unpacked_too(client: httpx.AsyncClient, coding: str, pack: Callable[[bytes], bytes]) -> None:
    data = b"GGUF" * 1000
    path = f"/api/blobs/sha256:{hashlib.sha256(data).hexdigest()}"
    answer = await client.post(path, content=pack(data), headers={"Content-Encoding": coding})
    assert answer.status_code in (200, 201)
    assert (await client.head(path)).status_code == 200


@packed
async def test_a_packed_body_may_come_in_single_bytes(coding: str, pack: Callable[[bytes], bytes]) -> None:
    data = b"some text, " * 1000
    messages = [{"type": "http.request", "body": bytes([byte]), "more_body": True} for byte in pack(data)]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        return messages.pop(0)

    request = Request({"type": "http", "method": "POST", "headers": [(b"content-encoding", coding.encode())]}, receive)
    assert b"".join([part async for part in content(request)]) == data


async def test_a_zstd_window_that_takes_much_memory_is_refused() -> None:
    options = {int(backports.zstd.CompressionParameter.window_log): 27}
    body = backports.zstd.compress(b"x" * (16 << 20), options=options)

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    request = Request({"type": "http", "method": "POST", "headers": [(b"content-encoding", b"zstd")]}, receive)
    with pytest.raises(RequestError):
        [part async for part in content(request)]


def test_one_client_holds_half_and_all_together_the_whole() -> None:
    in_flight = InFlight(100)
    exchanges = [Exchange("", "", "", "") for _ in range(3)]
    in_flight.hold(exchanges[0], "a", 50)
    with pytest.raises(Unavailable, match="your requests"):
        in_flight.hold(exchanges[1], "a", 1)
    in_flight.hold(exchanges[1], "b", 50)
    with pytest.raises(Unavailable, match="server busy"):
        in_flight.hold(exchanges[2], "c", 1)
    in_flight.release(exchanges[0])
    in_flight.hold(exchanges[2], "a", 50)


async def test_what_a_request_held_is_given_back_when_it_is_answered(tmp_path: Path) -> None:
    app = create_app(Settings(models=tmp_path, max_in_flight=4000))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        for _ in range(5):
            assert (await client.post("/api/show", json={"model": "x" * 1000})).status_code == 400
        answer = await client.post("/api/show", json={"model": "x" * 2500})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(("size", "is_beside"), [(100, False), (1 << 20, True)])
async def test_a_large_body_is_decoded_beside_the_event_loop(tmp_path: Path, size: int, is_beside: bool) -> None:
    app = create_app(Settings(models=tmp_path))

    async def receive() -> Any:
        return {"type": "http.request", "body": b"x" * size, "more_body": False}

    scope = {"type": "http", "method": "POST", "headers": [], "app": app, "state": {"client": "a"}}
    async with app.router.lifespan_context(app):
        found = await decoded(Request(scope, receive), lambda body: (len(body), threading.current_thread()))
    assert found[0] == size and (found[1] is not threading.main_thread()) is is_beside
