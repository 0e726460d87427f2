"""An answer that is read as it comes, from engines that do what a test says."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httptools
import pytest

from serow.engines.child import Listen
from serow.engines.stream import AnswerStream, Unreachable, post

DEADLINE = 20.0
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="unix sockets")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@asynccontextmanager
async def engine(directory: Path, script: Script) -> AsyncIterator[Listen]:
    """Serve one socket: each connection's request is read, then the script goes on."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            assert b"authorization: bearer key" in head.lower()
            assert await reader.readexactly(length) == b'{"a":1}'
            await script(reader, writer)
        finally:
            writer.close()
            ended.set()

    path = str(directory / "s")
    server = await asyncio.start_unix_server(serve, path)
    async with asyncio.timeout(DEADLINE), server:
        yield Listen(path, 0, "key")
        await ended.wait()


def says(*pieces: bytes) -> Script:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return script


async def read(answer: AnswerStream) -> bytes:
    pieces = []
    while piece := await answer.read():
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("cut", range(1, 80, 7))
async def test_an_answer_is_whole_wherever_its_bytes_split(tmp_path: Path, cut: int) -> None:
    whole = HEAD + chunk(b"data: one\n\n") + chunk(b"data: two\n\n") + b"0\r\n\r\n"
    async with engine(tmp_path, says(whole[:cut], whole[cut:])) as listen, post(listen, "/x", b'{"a":1}', DEADLINE) as answer:
        assert await answer.head() == 200
        assert await read(answer) == b"data: one\n\ndata: two\n\n"
        assert await answer.read() == b""


async def test_an_error_is_read_with_its_status(tmp_path: Path) -> None:
    said = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nwrong"
    async with engine(tmp_path, says(said)) as listen, post(listen, "/x", b'{"a":1}', DEADLINE) as answer:
        assert await answer.head() == 400
        assert await answer.read_all() == b"wrong"


@pytest.mark.parametrize("said", [b"", HEAD[:20], HEAD, HEAD + b"20\r\nhalf"])
async def test_an_engine_that_breaks_off_is_an_error_behind_what_it_said(tmp_path: Path, said: bytes) -> None:
    async with engine(tmp_path, says(said)) as listen, post(listen, "/x", b'{"a":1}', DEADLINE) as answer:
        with pytest.raises(ConnectionError):
            await answer.head()
            assert await answer.read() == b"half"
            await answer.read()


async def test_what_is_not_http_is_an_error(tmp_path: Path) -> None:
    async with engine(tmp_path, says(b"SSH-2.0\r\n\r\n")) as listen, post(listen, "/x", b'{"a":1}', DEADLINE) as answer:
        with pytest.raises(httptools.HttpParserError):
            await answer.head()


async def test_an_engine_waits_for_a_slow_reader(tmp_path: Path) -> None:
    pieces, size = 64, 1 << 16
    written = 0

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.transport.set_write_buffer_limits(0)
        writer.write(HEAD)
        for _piece in range(pieces):
            writer.write(chunk(bytes(size)))
            await writer.drain()
            written += size
        writer.write(b"0\r\n\r\n")

    async with engine(tmp_path, script) as listen, post(listen, "/x", b'{"a":1}', DEADLINE) as answer:
        await answer.head()
        before = -1
        while written > before:  # until it can write no more
            before = written
            for _ in range(100):
                await asyncio.sleep(0)
        assert written < pieces * size
        assert len(await read(answer)) == pieces * size


async def test_leaving_ends_the_connection(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"first"))
        with pytest.raises(ConnectionError):
            while not await reader.read(1):
                writer.write(chunk(b"more"))
                await writer.drain()

    async with engine(tmp_path, script) as listen, post(listen, "/x", b'{"a":1}', DEADLINE) as answer:
        await answer.head()


async def test_nobody_there_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        async with post(Listen(str(tmp_path / "s"), 0, "key"), "/x", b"{}", DEADLINE):
            pass
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable):
            async with post(Listen("127.0.0.1", taken.getsockname()[1], "key"), "/x", b"{}", DEADLINE):
                pass
