"""Blobs: files named after the SHA-256 of what they hold, `blobs/sha256-<64 hex>` as Ollama lays them out.

What is being written has another name, `.serow-…-partial`, in the same directory; only a complete, verified file is renamed
into place. A killed writer leaves nothing but its partial file, which `sweep` removes an hour later.
"""

import asyncio
import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from serow.errors import ModelFileError, RequestError, StoreError
from serow.system.disk import PARTIAL, open_partial, publish

_PARTIAL_AGE = 3600.0  # seconds that an unfinished file is kept
_BUFFER = 1 << 20  # bytes gathered before a write leaves the event loop
_UMASK = os.umask(0o22)  # it can only be read by setting it, and only while there is one thread
os.umask(_UMASK)
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


def hex_of(digest: str) -> str:
    """The 64 hexadecimal digits of `sha256:…` (or `sha256-…`), in lower case; raises ModelFileError for anything else."""
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ModelFileError("invalid digest format")
    return match[1].lower()


@contextmanager
def disk_errors(
    owner: str = "the model store",
    place: str = "the model store",
    *,
    when_full: str = "remove a model: serow rm NAME",
    hint: str = "",
) -> Iterator[None]:
    """Turn an OSError of a disk into a StoreError without a path: of `owner`'s disk that is full, of a `place` that fails."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(f"no space left on the disk of {owner}", hint=when_full) from error
        reason = os.strerror(error.errno).lower() if error.errno else "unknown fault"
        raise StoreError(f"{place} failed: {reason}", hint=hint) from error


def read_small(path: Path, limit: int) -> bytes:
    """The whole of a small file; raises StoreError when it is not there, ModelFileError when it is above `limit` bytes."""
    with disk_errors(), path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ModelFileError(f"a part of the model is larger than {limit} bytes")
    return data


class Blobs:
    """The blobs of a store, and those of `further` ones, which are only read. Digests are checked before they become paths."""

    def __init__(self, root: Path, further: Sequence[Path] = ()) -> None:
        self.root = root
        self._further = tuple(further)

    def path(self, digest: str) -> Path:
        """Where a blob lies, in the first store that has it; where it would be written when none has.

        Raises ModelFileError for a digest that is none.
        """
        path = self.target(digest)
        return path if path.exists() or not self._further else self._in_further(digest) or path

    def target(self, digest: str) -> Path:
        """Where a blob is written; raises ModelFileError."""
        return _in(self.root, digest)

    def is_own(self, digest: str) -> bool:
        """Whether the blob lies in the store that is written to; raises ModelFileError for a digest that is none."""
        return self.target(digest).is_file()

    def is_further(self, digest: str) -> bool:
        """Whether a store that is only read has the blob."""
        return self._in_further(digest) is not None

    def _in_further(self, digest: str) -> Path | None:
        paths = (_in(root, digest) for root in self._further)
        return next((path for path in paths if os.path.isfile(path)), None)  # noqa: PTH113 - False where it can't be looked at

    def has(self, digest: str) -> bool:
        """Whether the blob is there; raises ModelFileError for a digest that is none."""
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """Bytes of a blob; raises StoreError when it is not there."""
        with disk_errors():
            return self.path(digest).stat().st_size

    def read(self, digest: str, limit: int) -> bytes:
        """The whole of a small blob; raises StoreError when it is not there, ModelFileError when it is above `limit` bytes."""
        return read_small(self.path(digest), limit)

    def put(self, data: bytes) -> tuple[str, bool]:
        """Store small data, also what a further store has: that may go; returns its digest and whether it is new here."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        is_new = not self.is_own(digest)
        if is_new:
            with disk_errors():
                write_atomic(self.target(digest), data)
        return digest, is_new

    def writer(self, expected: str | None = None) -> "BlobWriter":
        """A writer of one blob, see BlobWriter. `expected` is the digest that it must turn out to have."""
        return BlobWriter(self, expected)

    def begin(self) -> "Partial":
        """A blob that is written piece by piece, see Partial."""
        return Partial(self)

    def add(self, path: Path) -> str:
        """Copy a file in; returns its digest. Blocks as long as reading the file takes; raises StoreError."""
        partial = Partial(self)
        try:
            with disk_errors(), path.open("rb") as file:
                while data := file.read(_BUFFER):
                    partial.append(data)
            return partial.commit(None)
        finally:
            partial.discard()

    def move_in(self, path: Path) -> str:
        """Take a finished file of the store's own disk in; returns its digest. Blocks as long as reading the file takes."""
        with disk_errors(), path.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            os.fsync(file.fileno())
            path.chmod(mode_of_files())
            publish(path, self.target(digest))
        return digest

    def remove(self, digest: str) -> None:
        """Remove a blob from the store that is written to, if it is there."""
        with disk_errors():
            self.target(digest).unlink(missing_ok=True)


def _in(root: Path, digest: str) -> Path:
    """Where a blob lies in a folder. Old stores have a colon in its name (LIB-36): such a file is never renamed."""
    path, old = root / f"sha256-{hex_of(digest)}", root / f"sha256:{hex_of(digest)}"
    return old if not os.path.exists(path) and os.path.exists(old) else path  # noqa: PTH110


class Partial:
    """A blob that is being written: `append`, then `commit` or `discard`. Blocks; raises StoreError."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._hash = hashlib.sha256()
        self.size = 0
        with disk_errors():
            blobs.root.mkdir(parents=True, exist_ok=True)
            handle, path = open_partial(blobs.root)
        self._file, self._path = os.fdopen(handle, "wb", buffering=0), path

    def append(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        rest = memoryview(data)
        with disk_errors():
            while rest:
                rest = rest[self._file.write(rest) :]

    def commit(self, expected: str | None) -> str:
        """Verify, sync, rename into place; returns the digest. Raises RequestError on a mismatch."""
        digest = f"sha256:{self._hash.hexdigest()}"
        if expected not in (None, digest):
            raise RequestError(f'digest mismatch, expected "{expected}", got "{digest}"')
        with disk_errors():
            os.fsync(self._file.fileno())
            self._file.close()
            self._path.chmod(mode_of_files())
            publish(self._path, self._blobs.target(digest))
        return digest

    def discard(self) -> None:
        """Leave nothing of what was not committed."""
        self._file.close()
        with disk_errors():
            self._path.unlink(missing_ok=True)


class BlobWriter:
    """Writes one blob: `async with blobs.writer(digest) as w: await w.write(chunk)`, afterwards `w.digest`, `w.size`.

    The disk is touched outside the event loop. Leaving the block verifies, syncs and renames; raises RequestError on a
    mismatch and StoreError on a failing disk. Then, and when the block raises, nothing is left.
    """

    def __init__(self, blobs: Blobs, expected: str | None) -> None:
        self._blobs = blobs
        self._expected = None if expected is None else f"sha256:{hex_of(expected)}"
        self._buffer = bytearray()
        self._partial: Partial
        self.digest = ""
        self.size = 0  # bytes

    async def __aenter__(self) -> Self:
        self._partial = Partial(self._blobs)
        return self

    async def write(self, chunk: bytes) -> None:
        """Append; a megabyte at a time reaches the disk."""
        self._buffer += chunk
        self.size += len(chunk)
        if len(self._buffer) >= _BUFFER:
            await self._flush()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self._flush()
                self.digest = await asyncio.to_thread(self._partial.commit, self._expected)
        finally:
            self._partial.discard()

    async def _flush(self) -> None:
        data, self._buffer = bytes(self._buffer), bytearray()
        await asyncio.to_thread(self._partial.append, data)


def mode_of_files() -> int:
    """Readable for all, as far as the umask lets it (LIB-36)."""
    return 0o644 & ~_UMASK


def write_atomic(path: Path, data: bytes, mode: int | None = None) -> None:
    """Put a small file in place in one step: a reader sees the old one, the new one, never half of either."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = open_partial(path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(mode_of_files() if mode is None else mode)
        publish(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sweep(directory: Path, now: float | None = None) -> int:
    """Remove what killed writers left below a directory an hour before `now` (seconds since the epoch); returns how many.

    What can't be removed stays.
    """
    oldest = (time.time() if now is None else now) - _PARTIAL_AGE
    num_removed = 0
    for path in directory.rglob(".serow-*-partial"):
        with suppress(OSError):
            status = path.lstat()
            if PARTIAL.fullmatch(path.name) and stat.S_ISREG(status.st_mode) and status.st_mtime < oldest:
                path.unlink()
                num_removed += 1
    return num_removed
