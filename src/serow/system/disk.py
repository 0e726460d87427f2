"""What is done to files so that a power cut leaves the old or the new, and what Windows has no call for."""

import errno
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from threading import Lock

PARTIAL = re.compile(r"\.serow-[a-z0-9_]{8}-partial")  # the name of a file of `open_partial`
_BUFFER = 1 << 20  # bytes
_UNKNOWN = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)  # of file systems that can't allocate

if sys.platform == "win32":
    _moving = Lock()  # a file has one position for all threads there

    def read_at(file: int, length: int, start: int) -> bytes:
        """Up to `length` bytes of an open file from `start` on."""
        with _moving:
            os.lseek(file, start, os.SEEK_SET)
            return os.read(file, length)

    def write_at(file: int, data: bytes | memoryview, start: int) -> int:
        """Write at a place of an open file; returns how many bytes were taken."""
        with _moving:
            os.lseek(file, start, os.SEEK_SET)
            return os.write(file, data)
else:

    def read_at(file: int, length: int, start: int) -> bytes:
        """Up to `length` bytes of an open file from `start` on."""
        return os.pread(file, length, start)

    def write_at(file: int, data: bytes | memoryview, start: int) -> int:
        """Write at a place of an open file; returns how many bytes were taken."""
        return os.pwrite(file, data, start)


def write_all(file: int, data: bytes | bytearray | memoryview, start: int) -> None:
    """Write all of the data at a place of an open file."""
    rest = memoryview(data)
    while rest:
        taken = write_at(file, rest, start)
        rest, start = rest[taken:], start + taken


def allocate(file: int, size: int) -> None:
    """Give an open file its size, on the disk where the file system can; raises OSError when there is no space for it."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
            return
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
    if os.fstat(file).st_size != size:
        os.ftruncate(file, size)


def open_partial(directory: Path) -> tuple[int, Path]:
    """A new file for what is not whole yet: its descriptor, and its path, by whose name a sweep knows it for ours."""
    handle, name = tempfile.mkstemp(prefix=".serow-", suffix="-partial", dir=directory)
    return handle, Path(name)


def sync_folder(folder: Path) -> None:
    """Let the entries of a folder outlast a power cut, where folders can be synced."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(path: Path, target: Path) -> None:
    """Rename a synced file into place and sync the folder. A target that is a link stays one; another disk gets a copy."""
    target = Path(os.path.realpath(target)) if target.is_symlink() else target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(path, target)
        path.unlink()
    sync_folder(target.parent)


def _copy(path: Path, target: Path) -> None:
    handle, partial = open_partial(target.parent)
    try:
        with os.fdopen(handle, "wb") as copy, path.open("rb") as file:
            shutil.copyfileobj(file, copy, _BUFFER)
            copy.flush()
            os.fsync(copy.fileno())
        shutil.copymode(path, partial)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
