"""The private directory of a child's socket, and what servers that were killed left of theirs.

They lie in a directory of our own, `serow` in the user's runtime directory, and each has our mark. Its server holds a lock on
it, which the kernel takes back however the server ends: who can lock one has found a left-over.
"""

import contextlib
import os
import re
import secrets
import sys
import tempfile
from pathlib import Path

from serow.system import owned

if sys.platform != "win32":
    import fcntl

SOCKET = "engine.sock"
_NAME = re.compile(r"engine-[0-9a-f]{16}")


class SocketDirectory:
    """A new directory that only its owner may enter (mode 0700), until `remove`."""

    def __init__(self) -> None:
        self.path, self._lock = _make()

    def remove(self) -> None:
        """Delete it with the socket; a second time does nothing."""
        lock, self._lock = self._lock, None
        owned.remove(self.path, _is_made)
        if lock is not None:
            os.close(lock)


def sweep() -> None:
    """Remove what dead servers of this user left; does nothing where directories can't be locked."""
    parent = _parent()
    for path in list(parent.iterdir()) if owned.is_private(parent) else ():
        lock = _lock(path) if _NAME.fullmatch(path.name) and owned.is_ours(path) else None
        if lock is not None:
            owned.remove(path, _is_made)
            os.close(lock)


def _is_made(name: str) -> bool:
    """Whether an engine has put it there: its socket, or one of its own beside it."""
    return name.endswith(".sock")


def _parent() -> Path:
    """Where the directories of sockets are: the user's runtime directory, else one for this user among the temporary files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and owned.is_private(Path(runtime)):
        return Path(runtime) / "serow"
    user = f"-{os.getuid()}" if sys.platform != "win32" else ""
    return Path(tempfile.gettempdir()) / f"serow{user}"


def _make() -> tuple[Path, int | None]:
    parent = _parent()
    with contextlib.suppress(OSError):
        parent.mkdir(mode=0o700)
    if owned.is_private(parent):
        path = parent / f"engine-{secrets.token_hex(8)}"
        path.mkdir(mode=0o700)
    else:  # it is somebody else's: one of our own then, which no sweep finds
        path = Path(tempfile.mkdtemp(prefix="serow-"))
    lock = _lock(path)
    owned.mark(path)  # last: a sweep that comes between leaves it alone
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
