"""The downloads of a server: each blob once, however many pulls want it (LIB-08); and what earlier ones have left (LIB-11)."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from serow.errors import PullError
from serow.library.download import Download, Line
from serow.registries.base import Place
from serow.store.blobs import Blobs, disk_errors
from serow.store.manifest import Layer
from serow.system.lock import FileLock

_HEX = 64  # digits of a digest


class _Shared:
    """A download, the task that runs it, and how many wait for it."""

    def __init__(self, download: Download) -> None:
        self.download = download
        self.num_users = 0
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        self.download.place.retain()
        try:
            await self.download.run()
        finally:
            await self.download.place.release()


@dataclass(frozen=True)
class Partial:
    """What an unfinished download has left. Sizes in bytes; `age` in seconds since the last byte."""

    digest: str
    size: int
    completed: int
    age: float


class Downloads:
    """Downloads into one store."""

    def __init__(self, blobs: Blobs, folder: Path) -> None:
        self.folder = folder
        self._blobs = blobs
        self._running: dict[str, _Shared] = {}

    def join(self, layer: Layer, place: Place, line: Line) -> "Ticket":
        """Join the download of a blob, or begin it. The ticket has to be waited for."""
        shared = self._running.get(layer.digest)
        is_ours = shared is None
        if shared is None:
            shared = self._running[layer.digest] = _Shared(Download(layer, place, self._blobs, self.folder, line))
            shared.task.add_done_callback(lambda _: self._running.pop(layer.digest, None))
        shared.num_users += 1
        return Ticket(shared, is_ours=is_ours)

    def has(self, digest: str) -> bool:
        """Whether a blob is being fetched."""
        return digest in self._running

    def partials(self) -> list[Partial]:
        """What unfinished downloads have left, the newest first. Blocks."""
        with disk_errors():
            return sorted(self._partials(), key=lambda partial: partial.age)

    def _partials(self) -> Iterator[Partial]:
        for path in self.folder.glob("sha256-*"):
            hexadecimal = path.name.removeprefix("sha256-")
            if len(hexadecimal) != _HEX or path.is_symlink() or not path.is_file():
                continue
            status = path.stat()
            present = min(status.st_blocks * 512, status.st_size)
            yield Partial(f"sha256:{hexadecimal}", status.st_size, present, max(0.0, time.time() - status.st_mtime))

    def remove(self, digest: str) -> bool:
        """Drop what an unfinished download has left; whether there was something. One that runs, here or elsewhere, stays."""
        path = self.folder / f"sha256-{digest.removeprefix('sha256:')}"
        if self.has(digest) or not path.exists():
            return False
        with disk_errors(), FileLock(path.with_name(path.name + ".lock")) as lock:
            if not lock.acquire():
                return False
            for each in (path, path.with_name(path.name + ".journal")):
                each.unlink(missing_ok=True)
            lock.remove()
        return True

    def sweep(self, age: float) -> int:
        """Remove what is older than `age` seconds; returns how many. What can't be removed stays."""
        count = 0
        with suppress(OSError):
            for partial in list(self._partials()):
                count += partial.age > age and self.remove(partial.digest)
        return count


class Ticket:
    """A part in a download: `wait` ends when the blob is there, or leaves it to the others."""

    def __init__(self, shared: _Shared, *, is_ours: bool) -> None:
        self._shared = shared
        self._is_ours = is_ours

    @property
    def download(self) -> Download:
        """The download, for its progress."""
        return self._shared.download

    @property
    def may_ask_again(self) -> bool:
        """Whether the download failed for somebody else, who may have had less to say."""
        task = self._shared.task
        failed = task.done() and not task.cancelled() and isinstance(task.exception(), PullError)
        return failed and not self._is_ours

    async def wait(self) -> None:
        """Wait until the blob is there; raises what the download fails with. Who is cancelled leaves it to the others."""
        try:
            await asyncio.shield(self._shared.task)
        finally:
            self._shared.num_users -= 1
            if not self._shared.num_users and not self._shared.task.done():
                self._shared.task.cancel()
                await asyncio.gather(self._shared.task, return_exceptions=True)
