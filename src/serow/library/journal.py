"""Which parts of a download are whole: a file of fixed-size records, each written after its part's data is on the disk.

    head     "serow-parts-1\\n", size of the blob, size of a part         8 bytes each, little-endian
    record   number of the part (8 bytes), SHA-256 of its bytes (32), CRC-32 of both (4)

A record that was torn by a power cut fails its CRC and counts as absent, and so do those behind it.
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from serow.system.disk import read_at

_MAGIC = b"serow-parts-1\n\x00\x00"
_HEAD = struct.Struct("<16sQQ")
_RECORD = struct.Struct("<Q32sI")
_BUFFER = 1 << 20  # bytes


class Journal:
    """The journal of one download. Blocks; raises OSError."""

    def __init__(self, path: Path, size: int, part_size: int) -> None:
        self._path = path
        self._head = _HEAD.pack(_MAGIC, size, part_size)
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """Begin a journal, or go on with one of the same blob and part size."""
        self._file = self._path.open("r+b") if self._is_ours() else self._path.open("w+b")
        if self._file.seek(0, os.SEEK_END) < _HEAD.size:
            self._file.write(self._head)
            self._sync()
        self._file.seek(_HEAD.size)

    def _is_ours(self) -> bool:
        try:
            with self._path.open("rb") as file:
                return file.read(_HEAD.size) == self._head
        except FileNotFoundError:
            return False

    def records(self) -> Iterator[tuple[int, bytes]]:
        """What it claims: numbers of parts and their SHA-256. Ends at the first record that is not whole, and cuts there."""
        assert self._file is not None
        at = _HEAD.size
        while True:
            self._file.seek(at)
            data = self._file.read(_RECORD.size)
            if len(data) < _RECORD.size:
                break
            number, sha256, crc = _RECORD.unpack(data)
            if crc != zlib.crc32(data[:-4]):
                break
            yield number, sha256
            at += _RECORD.size
        self._file.truncate(at)

    def add(self, number: int, sha256: bytes) -> None:
        """Claim a part whose data is on the disk."""
        assert self._file is not None
        body = struct.pack("<Q32s", number, sha256)
        self._file.seek(0, os.SEEK_END)
        self._file.write(body + struct.pack("<I", zlib.crc32(body)))
        self._sync()

    def forget(self) -> None:
        """Claim nothing any more."""
        assert self._file is not None
        self._file.truncate(_HEAD.size)
        self._sync()

    def close(self) -> None:
        """Leave the journal as it is."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """The download is over."""
        self.close()
        self._path.unlink(missing_ok=True)

    def _sync(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())


def claimed(path: Path) -> int | None:
    """How many bytes a journal says are whole; None when there is none."""
    try:
        with path.open("rb") as file:
            magic, size, part_size = _HEAD.unpack(file.read(_HEAD.size))
            count = (path.stat().st_size - _HEAD.size) // _RECORD.size
    except (OSError, struct.error):
        return None
    return min(int(size), count * int(part_size)) if magic == _MAGIC else None


def sha256_of(file: int, start: int, length: int, whole: "hashlib._Hash | None" = None) -> bytes:
    """The SHA-256 of a piece of an open file; `whole` is fed with the same bytes. A piece that is cut short fits nothing."""
    part = hashlib.sha256()
    while length:
        data = read_at(file, min(_BUFFER, length), start)
        if not data:
            return b""
        part.update(data)
        if whole is not None:
            whole.update(data)
        start, length = start + len(data), length - len(data)
    return part.digest()
