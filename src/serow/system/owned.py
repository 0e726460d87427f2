"""Directories of ours among other people's: marked when they are made, and only what we put there is ever removed.

A name alone proves nothing: whoever keeps his own work under a name like ours keeps it.
"""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MARK = ".serow"  # the file that makes a directory ours
_TEXT = b"made by serow, which removes here what it made\n"


def mark(path: Path) -> None:
    """Make a directory ours; raises OSError."""
    with suppress(FileExistsError):
        descriptor = os.open(path / MARK, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_TEXT)


def is_ours(path: Path) -> bool:
    """Whether a directory has our mark, is no link to one, and is this user's."""
    try:
        directory, file = path.lstat(), (path / MARK).lstat()
        if not (stat.S_ISDIR(directory.st_mode) and stat.S_ISREG(file.st_mode)):
            return False
        return _is_own(directory) and (path / MARK).read_bytes() == _TEXT
    except OSError:
        return False


def is_private(path: Path) -> bool:
    """Whether it is a directory of this user's, no link to one, in which nobody else may write."""
    try:
        status = path.lstat()
    except OSError:
        return False
    is_open = os.name == "posix" and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and _is_own(status) and not is_open


def remove(path: Path, is_made: Callable[[str], object]) -> None:
    """Remove from a directory of ours the files whose names we gave, and it itself if nothing else is in it."""
    if not is_ours(path):
        return
    with suppress(OSError):
        for entry in list(path.iterdir()):
            if entry.name != MARK and is_made(entry.name) and (entry.is_symlink() or not entry.is_dir()):
                entry.unlink()
        if [entry.name for entry in path.iterdir()] == [MARK]:
            (path / MARK).unlink()
            path.rmdir()


def _is_own(status: os.stat_result) -> bool:
    return os.name != "posix" or status.st_uid == os.geteuid()
