"""The private directory of a child's socket, and what servers that were killed left of theirs.

Its server holds a lock on it, which the kernel takes back however the server ends: who can lock one has found a left-over.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

if sys.platform != "win32":
    import fcntl

PREFIX = "serow-"


class SocketDirectory:
    """A new directory that only its owner may enter (mode 0700), until `remove`."""

    def __init__(self) -> None:
        self.path, self._lock = _make()

    def remove(self) -> None:
        """Delete it with all that is in it; a second time does nothing."""
        lock, self._lock = self._lock, None
        shutil.rmtree(self.path, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def sweep() -> None:
    """Remove what dead servers of this user left; does nothing where directories can't be locked."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = _lock(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _make() -> tuple[Path, int | None]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        if sys.platform == "win32":
            return path, None
        lock = _lock(path)
        if lock is not None:  # else a sweep came between
            return path, lock


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock of our own directory, None when it is gone, somebody else's or locked."""
    if sys.platform != "win32":
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            return None
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_uid == os.getuid() and path.exists():
                return lock
        os.close(lock)
    return None
