"""Files of a user that are blobs of the store, too: hard links, so that a model is not on the disk twice (LIB-33).

What the file was when it was linked is kept beside, in `linked/sha256-<hex>` of the store: a file that somebody changes
changes under its digest, which is found when the model is loaded.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from serow.store.blobs import Blobs, mode_of_files, write_atomic
from serow.system.disk import open_partial

_FOLDER = "linked"
_LONGEST = 100  # bytes of a record
_CLONE = 0x40049409  # FICLONE of linux/fs.h


def link(path: Path, root: Path, digest: str) -> bool:
    """Make a file a blob of the store, by a hard link or a clone of its bytes; whether that was possible."""
    if not root.is_dir():
        return False
    try:
        (root / "blobs").mkdir(exist_ok=True)
    except OSError:
        return False
    source, target = path.resolve(), Blobs(root / "blobs").path(digest)
    try:
        os.link(source, target)
    except OSError:
        return _clone(source, target)
    with suppress(OSError):
        write_atomic(_beside(target), _stamp(target))
    return True


def unlink(root: Path, digest: str) -> None:
    """Undo a link that was of no use."""
    blob = Blobs(root / "blobs").path(digest)
    for path in (blob, _beside(blob)):
        with suppress(OSError):
            path.unlink()


def is_linked(blob: Path) -> bool:
    """Whether a blob is a user's file, too."""
    return _beside(blob).exists()


def is_changed(blob: Path) -> bool:
    """Whether a linked file is another than it was."""
    try:
        with _beside(blob).open("rb") as file:
            return file.read(_LONGEST) != _stamp(blob)
    except OSError:
        return False


def _beside(blob: Path) -> Path:
    """The record of a blob, in the store where that lies."""
    return blob.parent.parent / _FOLDER / blob.name.replace(":", "-")


def _stamp(path: Path) -> bytes:
    status = path.stat()
    return f"{status.st_mtime_ns} {status.st_size}\n".encode()


def _clone(source: Path, target: Path) -> bool:
    """A copy that shares the disk's blocks, where the file system can; it is a file of its own."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        handle, partial = open_partial(target.parent)
    except OSError:
        return False
    try:
        with source.open("rb") as read, os.fdopen(handle, "wb") as write:
            fcntl.ioctl(write.fileno(), _CLONE, read.fileno())
            os.fsync(write.fileno())
        partial.chmod(mode_of_files())
        partial.replace(target)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        return False
    return True
