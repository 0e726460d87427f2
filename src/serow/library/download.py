"""One blob on its way into the store: fetched by parts, journalled, verified before it is published (LIB-09 to LIB-12).

What is on the way is `downloads/sha256-<hex>` of the store, with `.journal` and `.lock` beside it, so that a download goes on
where it ended, also after kill -9. The SHA-256 of the whole is taken behind the writing, while later parts arrive.
"""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from serow.errors import PullError, RegistryError
from serow.library.journal import Journal, sha256_of
from serow.library.parts import Part, Parts, part_size
from serow.library.rate import Rate
from serow.library.transfer import Pace, Persistence, Speeds, Tries
from serow.library.verify import mark_of
from serow.registries.base import Interrupted, Place
from serow.store.blobs import Blobs, disk_errors
from serow.store.manifest import Layer
from serow.system.disk import allocate, publish, write_all
from serow.system.lock import FileLock
from serow.system.units import human_bytes
from serow.system.work import in_thread, together

_JOURNALLED = 1 << 20  # bytes from which on a blob has a journal; a smaller one is fetched anew
_POLL = 0.25  # seconds between looks at another process that fetches the same blob


@dataclass(frozen=True)
class Line:
    """How a download fetches: its connections, its limits."""

    lanes: asyncio.Semaphore
    rate: Rate = field(default_factory=Rate)
    connections: int = 4
    pace: Pace = field(default_factory=Pace)
    name: str = ""  # of the model, for people


class _RangeIgnored(Exception):
    """The registry sends the whole blob, whatever was asked for."""


class Download:
    """One blob. `run` brings it into the store; `completed` and `notes` tell how far it is."""

    def __init__(self, layer: Layer, place: Place, blobs: Blobs, folder: Path, line: Line) -> None:
        self.layer = layer
        self.place = place
        self.completed = 0  # bytes, never less than before
        self.notes: list[str] = []  # what people should know meanwhile
        self._blobs = blobs
        self._folder = folder
        self._path = folder / f"sha256-{layer.digest.removeprefix('sha256:')}"
        self._line = line
        self._parts = Parts(layer.size, part_size(layer.size))
        self._journal: Journal | None = None
        self._shared = Persistence(line.pace, self.notes.append)
        self._speeds = Speeds(line.pace.window)
        self._file = -1
        self._whole = hashlib.sha256()
        self._num_hashed = 0  # parts that `_whole` has seen
        self._arrived = asyncio.Event()  # a part is whole

    @property
    def is_there(self) -> bool:
        """Whether the blob is in the store, with the size that it should have."""
        is_there = self._blobs.has(self.layer.digest) and self._blobs.size(self.layer.digest) == self.layer.size
        return is_there and not mark_of(self._folder, self.layer.digest).exists()

    async def run(self) -> None:
        """Bring the blob; raises RegistryError and its kin, PullError for a wrong digest, StoreError for the disk."""
        self.place.retain()
        try:
            await self._run()
        finally:
            await self.place.release()

    async def _run(self) -> None:
        with self._disk_errors():
            await in_thread(partial(self._folder.mkdir, parents=True, exist_ok=True))
            with FileLock(self._beside(".lock")) as lock:
                while not lock.acquire():  # another process is at it
                    self._watch_other()
                    await asyncio.sleep(_POLL)
                try:
                    if not await in_thread(lambda: self.is_there):
                        await self._bring()
                finally:
                    lock.remove()
        self.completed = self.layer.size

    def _disk_errors(self) -> AbstractContextManager[None]:
        store = f"the model store in {self._folder.parent}"
        return disk_errors(store, store)

    def _watch_other(self) -> None:
        with suppress(OSError):
            self.completed = max(self.completed, min(self._path.stat().st_blocks * 512, self.layer.size))

    async def _bring(self) -> None:
        try:
            await in_thread(self._open)
            await self._resume()
            await self._fetch(self._line.connections)
            if not self._is_right():
                await self._repair()
            await in_thread(self._publish)
        finally:
            await in_thread(self._close)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        allocate(self._file, self.layer.size)
        if self.layer.size > _JOURNALLED:
            self._journal = Journal(self._beside(".journal"), self.layer.size, self._parts.part_size)
            self._journal.open()
            self._beside(".name").write_text(self._line.name, encoding="utf-8")

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _close(self) -> None:
        if self._journal is not None:
            self._journal.close()
        else:  # a small blob is fetched anew: nothing is kept of one that failed
            self._path.unlink(missing_ok=True)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    async def _resume(self) -> None:
        """Read again what the journal claims, and keep what fits."""
        claims = self._journal.records() if self._journal is not None else iter(())
        while (claim := await in_thread(next, claims, None)) is not None:
            number, sha256 = claim
            if number < len(self._parts) and await in_thread(self._fits, self._parts.part(number), sha256):
                self._parts.keep(self._parts.part(number))
                self._show()
        if self._parts.completed:
            done, size = human_bytes(self._parts.completed), human_bytes(self.layer.size)
            self.notes.append(f"resuming at {done} of {size}")

    def _fits(self, part: Part, sha256: bytes) -> bool:
        """Whether a part's bytes are what the journal says. One that is next in order is hashed into the whole as well."""
        whole = self._whole.copy() if part.number == self._num_hashed else None
        if sha256_of(self._file, part.start, part.length, whole) != sha256:
            return False
        if whole is not None:
            self._whole, self._num_hashed = whole, self._num_hashed + 1
        return True

    def _show(self) -> None:
        self.completed = max(self.completed, self._parts.completed)

    async def _fetch(self, connections: int) -> None:
        """Fetch every part that is missing, several at a time, and hash the whole behind them."""
        missing = self._parts.missing()
        try:
            works = [self._fetch_parts(missing) for _ in range(min(connections, len(self._parts)))]
            await together(self._hash(), *works)
        except _RangeIgnored:
            await together(self._hash(), self._stream())

    async def _fetch_parts(self, missing: Iterator[Part]) -> None:
        for part in missing:
            await self._fetch_part(part)

    async def _fetch_part(self, part: Part) -> None:
        tries = Tries(self._shared, self.place.host)
        while not part.is_whole:
            await self._shared.ready()
            try:
                async with self._line.lanes:
                    await self._try_part(part, tries)
            except Interrupted as failure:
                self._speeds.forget(part.number)
                await tries.again(failure)
        self._speeds.forget(part.number)
        await self._finish(part)

    async def _try_part(self, part: Part, tries: Tries) -> None:
        asked = part.first
        with tries.watch() as watch:
            async with self.place.fetch(self.layer, asked, part.last) as body:
                if body.is_whole and len(self._parts) > 1:
                    raise _RangeIgnored
                skipped = asked - body.first
                async for chunk in body.chunks:
                    if skipped:
                        chunk, skipped = chunk[skipped:], max(0, skipped - len(chunk))
                    await self._take(part, chunk)
                    rate = watch.took(len(chunk), len(chunk))
                    if rate is not None and self._speeds.is_crawling(part.number, rate):
                        self._shared.tell("slow: opened anew")
                        raise Interrupted("too slow")
            if not part.is_whole:
                raise Interrupted("unexpected EOF")

    async def _take(self, part: Part, chunk: bytes) -> None:
        """Write what came; raises PullError for more than was asked for."""
        if len(chunk) > part.length - part.have:
            raise RegistryError(f"{self.place.host} sends more than was asked for")
        await self._line.rate.take(len(chunk))
        with self._disk_errors():
            await in_thread(self._write, part, chunk)
        self._parts.arrived(part, len(chunk))
        self._show()

    def _write(self, part: Part, chunk: bytes) -> None:
        write_all(self._file, chunk, part.first)
        part.sha256.update(chunk)

    async def _finish(self, part: Part) -> None:
        if self._journal is not None:
            await in_thread(self._claim, part)
        if len(self._parts) == 1:
            self._whole, self._num_hashed = part.sha256, 1
        self._arrived.set()

    def _claim(self, part: Part) -> None:
        assert self._journal is not None
        os.fsync(self._file)
        self._journal.add(part.number, part.sha256.digest())

    async def _hash(self) -> None:
        """Take the SHA-256 of the whole, each part once all before it are there."""
        while self._num_hashed < len(self._parts):
            if self._parts.is_whole(self._num_hashed) and len(self._parts) > 1:
                part = self._parts.part(self._num_hashed)
                whole = self._whole.copy()
                await in_thread(sha256_of, self._file, part.start, part.length, whole)
                self._whole, self._num_hashed = whole, self._num_hashed + 1
            else:
                await self._arrived.wait()
                self._arrived.clear()

    async def _stream(self) -> None:
        """Fetch the whole in one stream, from a registry that minds no ranges; what is here already is passed over."""
        tries = Tries(self._shared, self.place.host)
        parts = [self._parts.part(number) for number in range(len(self._parts))]
        while not all(self._parts.is_whole(part.number) for part in parts):
            await self._shared.ready()
            try:
                async with self._line.lanes:
                    await self._try_stream(parts, tries)
            except Interrupted as failure:
                await tries.again(failure)

    async def _try_stream(self, parts: list[Part], tries: Tries) -> None:
        at = 0
        with tries.watch() as watch:
            async with self.place.fetch(self.layer, 0, self.layer.size - 1) as body:
                async for chunk in body.chunks:
                    if at + len(chunk) > self.layer.size:
                        raise RegistryError(f"{self.place.host} sends more than was asked for")
                    before = self._parts.completed
                    for part in parts[at // self._parts.part_size : (at + len(chunk) - 1) // self._parts.part_size + 1]:
                        await self._take_piece(part, chunk[max(0, part.first - at) : max(0, part.last + 1 - at)])
                    at += len(chunk)
                    watch.took(len(chunk), self._parts.completed - before)
            if at < self.layer.size:
                raise Interrupted("unexpected EOF")

    async def _take_piece(self, part: Part, piece: bytes) -> None:
        if not piece or self._parts.is_whole(part.number):
            return
        await self._take(part, piece)
        if part.is_whole:
            await self._finish(part)

    def _is_right(self) -> bool:
        return f"sha256:{self._whole.hexdigest()}" == self.layer.digest

    async def _repair(self) -> None:
        """Fetch the parts once more, one by one; raises PullError when the whole is still another, and drops it."""
        self._parts = Parts(self.layer.size, self._parts.part_size)
        self._whole, self._num_hashed = hashlib.sha256(), 0
        if self._journal is not None:
            await in_thread(self._journal.forget)
        await self._fetch(1)
        if not self._is_right():
            await in_thread(self._drop)
            got = f"sha256:{self._whole.hexdigest()}"
            raise PullError(f"digest mismatch, file must be downloaded again: want {self.layer.digest}, got {got}")

    def _drop(self) -> None:
        if self._journal is not None:
            self._journal.remove()
        for path in (self._path, self._beside(".name")):
            path.unlink(missing_ok=True)

    def _publish(self) -> None:
        """Sync and rename: from here on the blob is in the store."""
        os.fsync(self._file)
        publish(self._path, self._blobs.target(self.layer.digest))
        if self._journal is not None:
            self._journal.remove()
        for path in (self._beside(".name"), mark_of(self._folder, self.layer.digest)):
            path.unlink(missing_ok=True)
