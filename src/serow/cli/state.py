"""What the command line keeps for a user: the history of prompts, the log of a server in the background."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from serow.errors import SerowError


def directory(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's state directory of Serow, made when it is not there; readable by its owner only. Raises SerowError."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    path = base / "serow"
    with disk_errors(base):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Tell a disk that is full, read-only or not ours in words."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or "unknown fault").lower()
        hint = "choose another directory in LOCALAPPDATA" if sys.platform == "win32" else "choose another one in XDG_STATE_HOME"
        raise SerowError(f"can't keep files in {path}: {reason}", hint=hint) from error


def shown(path: Path) -> str:
    """A path as people write it, with `~` for their home."""
    return f"~/{path.relative_to(Path.home()).as_posix()}" if path.is_relative_to(Path.home()) else str(path)
