"""The downloads of a server: each blob once, however many pulls want it (LIB-08); and what earlier ones have left (LIB-11)."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from serow.library.download import Download, Line
from serow.library.journal import claimed
from serow.library.sharing import Table, Ticket
from serow.registries.base import Place
from serow.store.blobs import Blobs, disk_errors
from serow.store.manifest import Layer
from serow.system.lock import FileLock

_HEX = re.compile(r"[0-9a-f]{64}")
_BESIDE = (".journal", ".name", ".lock")  # one of these is beside every download of ours
_LONGEST_NAME = 1024  # characters


@dataclass(frozen=True)
class Partial:
    """What an unfinished download has left. Sizes in bytes; `age` in seconds since the last byte."""

    name: str  # of the model, as it was asked for
    digest: str
    size: int
    completed: int
    age: float


class Downloads:
    """Downloads into one store."""

    def __init__(self, blobs: Blobs, folder: Path) -> None:
        self.folder = folder
        self._blobs = blobs
        self._running: Table[Download] = Table()

    def join(self, layer: Layer, place: Place, line: Line) -> Ticket[Download]:
        """Join the download of a blob, or begin it. The ticket has to be waited for."""
        return self._running.join(layer.digest, lambda: Download(layer, place, self._blobs, self.folder, line))

    def partials(self) -> list[Partial]:
        """What unfinished downloads have left, the newest first. Blocks."""
        with disk_errors():
            return sorted(self._partials(), key=lambda partial: partial.age)

    def _partials(self) -> Iterator[Partial]:
        for path in self.folder.glob("sha256-*"):
            hexadecimal = path.name.removeprefix("sha256-")
            is_ours = any(path.with_name(path.name + suffix).is_file() for suffix in _BESIDE)
            if not _HEX.fullmatch(hexadecimal) or path.is_symlink() or not path.is_file() or not is_ours:
                continue
            status = path.stat()
            present = claimed(path.with_name(f"{path.name}.journal"))
            if present is None:
                present = min(status.st_blocks * 512, status.st_size)
            yield Partial(
                _name_beside(path), f"sha256:{hexadecimal}", status.st_size, present, max(0.0, time.time() - status.st_mtime)
            )

    def remove(self, digest: str) -> bool:
        """Drop what an unfinished download has left; whether there was something. One that runs, here or elsewhere, stays."""
        path = self.folder / f"sha256-{digest.removeprefix('sha256:')}"
        if digest in self._running or not path.exists():
            return False
        with disk_errors(), FileLock(path.with_name(path.name + ".lock")) as lock:
            if not lock.acquire():
                return False
            for each in (path, *(path.with_name(path.name + suffix) for suffix in _BESIDE if suffix != ".lock")):
                each.unlink(missing_ok=True)
            lock.remove()
        return True

    def remove_of(self, name: str) -> int:
        """Drop what unfinished downloads of a model have left; returns how many. Blocks; raises StoreError."""
        return sum(self.remove(partial.digest) for partial in self.partials() if partial.name.lower() == name.lower())

    def sweep(self, age: float) -> int:
        """Remove what is older than `age` seconds; returns how many. What can't be removed stays."""
        count = 0
        with suppress(OSError):
            for partial in list(self._partials()):
                count += partial.age > age and self.remove(partial.digest)
        return count


def _name_beside(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.with_name(f"{path.name}.name").read_text(encoding="utf-8")[:_LONGEST_NAME]
    return ""
