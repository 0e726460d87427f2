"""Uploads of blobs that come in parts and may break off: what has come is held for an hour, and the next part goes on there.

Held by this process only: with it goes what is not whole.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from serow.errors import Conflict, RequestError
from serow.store.blobs import Blobs, Partial, hex_of

MOST = 4  # unfinished uploads at a time; the one that was added to longest ago goes
IDLE = 3600.0  # seconds, after which an upload that nobody goes on with goes
_BUFFER = 1 << 20  # bytes gathered before a write leaves the event loop


class _Upload:
    """One blob on its way. `in_use`: a part of it is coming."""

    def __init__(self, partial: Partial) -> None:
        self.partial = partial
        self.used_at = time.monotonic()
        self.in_use = True


class Uploads:
    """The unfinished uploads of a store, as an async context that leaves none."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._held: OrderedDict[str, _Upload] = OrderedDict()  # by the digest's digits; the one used last stands last

    def received(self, digest: str) -> int:
        """How many bytes of a blob are here, where the next part has to begin. Raises ModelFileError for no digest."""
        upload = self._held.get(hex_of(digest))
        return upload.partial.size if upload else 0

    async def add(self, digest: str, start: int, total: int, parts: AsyncIterator[bytes]) -> bool:
        """Take a part that begins at byte `start` of `total`; whether the blob is whole now, and in place.

        What came of a part that breaks off counts. Raises Conflict for one that begins elsewhere or while another one comes,
        RequestError for a blob that is not what its digest says (nothing of it is kept), StoreError.
        """
        name = hex_of(digest)
        upload = await self._opened(name, start)
        try:
            await _receive(upload.partial, total, parts)
            if upload.partial.size < total:
                return False
            await asyncio.to_thread(upload.partial.commit, f"sha256:{name}")
        finally:
            upload.in_use, upload.used_at = False, time.monotonic()
            if upload.partial.size >= total:  # in place, or not what it was to be
                await self._discard(name)
        return True

    async def _opened(self, name: str, start: int) -> _Upload:
        await self._forget_idle()
        upload = self._held.get(name)
        if upload is not None and upload.in_use:
            raise Conflict("another part of this file is being uploaded")
        size = upload.partial.size if upload else 0
        if start != size:
            raise Conflict(f"the upload goes on at byte {size}, not {start}")
        if upload is None:
            upload = self._held[name] = _Upload(self._blobs.begin())
        upload.in_use = True
        self._held.move_to_end(name)
        return upload

    async def _forget_idle(self) -> None:
        oldest = time.monotonic() - IDLE
        idle = [name for name, upload in self._held.items() if not upload.in_use]
        num_too_many = len(self._held) - MOST + 1
        for number, name in enumerate(idle):
            if number < num_too_many or self._held[name].used_at < oldest:
                await self._discard(name)

    async def _discard(self, name: str) -> None:
        await asyncio.to_thread(self._held.pop(name).partial.discard)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._held):
            await self._discard(name)


async def _receive(partial: Partial, total: int, parts: AsyncIterator[bytes]) -> None:
    """Append what comes, a megabyte at a time; also what came before it broke off."""
    buffer = bytearray()
    try:
        async for part in parts:
            buffer += part
            if partial.size + len(buffer) > total:
                buffer.clear()
                raise RequestError(f"the upload is longer than the {total} bytes that it was to have")
            if len(buffer) >= _BUFFER:
                data, buffer = bytes(buffer), bytearray()
                await asyncio.to_thread(partial.append, data)
    finally:
        if buffer:
            await asyncio.shield(asyncio.to_thread(partial.append, bytes(buffer)))
