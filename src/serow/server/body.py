"""A request's body: unpacked, bounded, and counted with those of all requests that are not answered yet (RES-05, RES-07)."""

import asyncio
import math
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar, cast

from starlette.requests import Request

from serow import bounds
from serow.errors import RequestError, TooLarge, UnsupportedEncoding
from serow.server.context import context
from serow.server.exchange import current

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

T = TypeVar("T")

_SMALL, _FEW = 64 << 10, 1000  # bytes, and values about, of a body that is decoded within a millisecond
_PIECE = 256 << 10  # bytes that are unpacked at once
_SMALL_MEMBER = 1024  # bytes
_LARGEST_WINDOW = 23  # of zstd, as a power of two: 8 MiB, what RFC 8878 asks of every decoder


async def decoded(request: Request, decode: Callable[[bytes], T]) -> T:
    """The body as `decode` understands it: beside the event loop if it is large, and large ones one after another.

    Raises as `read_body` and `decode` do.
    """
    body = await read_body(request)
    if len(body) <= _SMALL and body.count(b",") + body.count(b"{") <= _FEW:
        return decode(body)
    async with context(request).in_flight.turn:
        return await asyncio.to_thread(decode, body)


async def read_body(request: Request) -> bytes:
    """The whole body, unpacked. Raises TooLarge before it holds more than it may, Unavailable, and as `content`."""
    server = context(request)
    limit, in_flight = server.settings.max_body, server.in_flight
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise TooLarge(f"the request body is larger than {limit} bytes")
    body = bytearray()
    async for part in content(request, limit):
        if len(body) + len(part) > limit:
            raise TooLarge(f"the request body is larger than {limit} bytes")
        in_flight.hold(current(), request.state.client, len(part))
        body += part
    return bytes(body) if len(body) <= _SMALL else cast("bytes", body)  # a copy of megabytes holds everybody up


async def content(request: Request, most_packed: float = math.inf) -> AsyncIterator[bytes]:
    """The body's parts as they come, unpacked.

    Raises UnsupportedEncoding, RequestError for one that is broken or cut off, TooLarge for more bytes that are packed: they
    may hold nothing.
    """
    coding = request.headers.get("content-encoding", "").strip().lower()
    unpacker = _unpacker(coding)
    if unpacker is None:
        async for part in request.stream():
            yield part
        return
    num_packed = 0
    async for part in request.stream():
        num_packed += len(part)
        if num_packed > most_packed:
            raise TooLarge(f"the request body is larger than {most_packed} bytes")
        pieces = unpacker.unpack(part)
        while (piece := await asyncio.to_thread(_next, pieces, coding)) is not None:
            yield piece
    if not unpacker.is_whole:
        raise RequestError(f"the request body ends in the middle of its {coding} data")


def _next(pieces: Iterator[bytes], coding: str) -> bytes | None:
    """As much as is unpacked at once, be it of many small members; None at the end."""
    gathered = bytearray()
    try:
        for piece in pieces:
            gathered += piece
            if len(gathered) >= _PIECE:
                break
        return bytes(gathered) or None
    except (zlib.error, ZstdError, MemoryError):
        raise RequestError(f"the request body is not valid {coding} data") from None


def _unpacker(coding: str) -> "_Zlib | _Zstd | None":
    if coding in ("", "identity"):
        return None
    if coding in ("gzip", "x-gzip"):
        return _Zlib(lambda _: zlib.MAX_WBITS | 16)
    if coding == "deflate":
        return _Zlib(_bits_of_deflate)
    if coding == "zstd":
        return _Zstd()
    raise UnsupportedEncoding(
        f"Content-Encoding {coding[:40]!r} is not understood: send gzip, deflate, zstd, or the plain body"
    )


def _bits_of_deflate(start: bytes) -> int:
    """With the header that RFC 9110 asks for, or bare, as some send it."""
    has_header = start[0] & 15 == 8 and int.from_bytes(start[:2]) % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS


class _Members:
    """Counts the small ones of the members or frames that a packed body has: each costs as much as a KiB does."""

    def __init__(self) -> None:
        self._num_small = 0
        self._size = 0  # bytes unpacked of the present one

    def grow(self, size: int) -> None:
        """The present one has brought so many bytes."""
        self._size += size

    def end(self) -> None:
        """The present one is whole; raises RequestError when too many were small."""
        self._num_small += self._size < _SMALL_MEMBER
        self._size = 0
        bounds.MEMBERS.check(self._num_small, "the packed request body")


class _Zlib:
    """gzip, of one member or several, and deflate."""

    def __init__(self, bits: Callable[[bytes], int]) -> None:
        self._members = _Members()
        self._bits = bits
        self._start = b""  # too little yet to tell what it is
        self._unpacking: zlib._Decompress | None = None

    @property
    def is_whole(self) -> bool:
        """Whether what came is complete."""
        return not self._start and (self._unpacking is None or self._unpacking.eof)

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """What `data` holds, piece by piece."""
        data = self._start + data
        self._start = b""
        piece = b""
        while data or len(piece) == _PIECE:
            if self._unpacking is None or self._unpacking.eof:
                if len(data) < 2:
                    self._start = data
                    return
                self._unpacking = zlib.decompressobj(self._bits(data))
            piece = self._unpacking.decompress(data, _PIECE)
            data = self._unpacking.unconsumed_tail or self._unpacking.unused_data
            self._members.grow(len(piece))
            if self._unpacking.eof:
                self._members.end()
            if piece:
                yield piece


class _Zstd:
    """zstd, of one frame or several."""

    def __init__(self) -> None:
        self._members = _Members()
        self._unpacking = self._begin()
        self._is_fresh = True

    @staticmethod
    def _begin() -> ZstdDecompressor:
        return ZstdDecompressor(options={DecompressionParameter.window_log_max: _LARGEST_WINDOW})

    @property
    def is_whole(self) -> bool:
        """Whether what came is complete."""
        return self._is_fresh or self._unpacking.eof

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """What `data` holds, piece by piece."""
        while data or not (self._unpacking.eof or self._unpacking.needs_input):
            if self._unpacking.eof:
                self._unpacking = self._begin()
            self._is_fresh = False
            piece = self._unpacking.decompress(data, _PIECE)
            data = self._unpacking.unused_data
            self._members.grow(len(piece))
            if self._unpacking.eof:
                self._members.end()
            if piece:
                yield piece
