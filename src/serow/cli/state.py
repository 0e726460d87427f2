"""What the command line keeps for a user: the history of prompts, the log of a server in the background."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def directory(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's state directory of Serow, made when it is not there; readable by its owner only."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    path = base / "serow"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def shown(path: Path) -> str:
    """A path as people write it, with `~` for their home."""
    return f"~/{path.relative_to(Path.home()).as_posix()}" if path.is_relative_to(Path.home()) else str(path)
