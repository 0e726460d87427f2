"""An exclusive lock on a file, among tasks and processes; the system releases it when its holder dies."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """`with FileLock(path) as lock:` opens the file, `lock.acquire()` tries once; leaving gives it back.

    A lock whose file its last holder has removed is no lock: acquiring opens the file anew then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._file = self._path.open("ab")
        return self

    def acquire(self) -> bool:
        """Whether the lock is ours now; never waits."""
        assert self._file is not None
        try:
            _lock(self._file)
        except OSError:
            return False
        if self._is_current(self._file):
            return True
        self._file.close()
        self._file = self._path.open("ab")
        return False

    def _is_current(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        """Remove the file of a lock that we hold, when nobody needs it any more; others find out when they acquire it."""
        with suppress(OSError):
            self._path.unlink()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._file is not None
        self._file.close()
