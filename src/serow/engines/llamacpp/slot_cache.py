"""What the slots of unloaded models held, on disk: a conversation that goes on later is not read anew.

<root>/<key>/            one model in one engine: `record.json`, and the engine's own files for each slot
<root>/<key>.<random>/   where an engine that runs restores from and saves to

Both have our mark (`system.owned`): the root may be any directory of the user's, with work of his own in it.

A slot is taken out before it is restored, and what is saved appears when it is whole: no file makes an engine fall twice, and
none that was half written is believed. All of it is users' texts: directories have mode 0700, files 0600.
"""

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from serow.engines.base import LoadRequest
from serow.engines.llamacpp.params import describe
from serow.system import owned

_NAME = re.compile(r"[0-9a-f]{32}(\.[0-9a-f]{8})?")
_RECORD = "record.json"
_FILE = re.compile(r"\d+\.slot")
_LONGEST_RECORD = 64 << 10  # bytes
_LEFT_OVER = 3600.0  # seconds after which an engine's directory is one of a killed server: restoring and saving take a few


class _Record(Struct, frozen=True):
    """`sizes` in bytes, of all files of each slot; the most recently used slot first."""

    weights: str  # the path of the model file
    sizes: tuple[int, ...]


class SlotCache:
    """All that is saved, within a limit in bytes; 0 keeps nothing. Methods block, for some milliseconds."""

    def __init__(self, root: Path, limit: int) -> None:
        self.root = root
        self._limit = limit

    def place(self, request: LoadRequest) -> "SlotPlace | None":
        """Where the slots of a model come from and go to; None for one of which nothing is kept."""
        if not self._limit or request.model.projector:  # slots with pictures in them can't be saved
            return None
        return SlotPlace(self, _key(request), request.model.weights.absolute())

    def sweep(self) -> None:
        """Remove what belongs to no model file any more, what killed servers left, and what is beyond the limit."""
        with suppress(OSError):  # a disk that fails keeps no server from starting, no model from being removed
            for path in self._entries():
                if not self._limit or _is_unwanted(path):
                    _remove(path)
            self.make_room(0, self.root)

    def make_room(self, size: int, own: Path) -> bool:
        """Remove the least recently used others until `size` bytes more may lie in `own`; false when they may not.

        Half of the space that would be free without us stays free. Raises OSError.
        """
        sizes = {path: _size(path) for path in self._entries()}
        total = sum(sizes.values()) + size
        most = min(self._limit, (shutil.disk_usage(self.root).free + total - size) // 2)
        if sizes.pop(own, 0) + size > most:
            return False
        for path, freed in sizes.items():
            if total > most:
                _remove(path)
                total -= freed
        return True

    def _entries(self) -> list[Path]:
        """Our directories, the least recently used first."""
        with suppress(FileNotFoundError):
            named = (entry for entry in os.scandir(self.root) if _NAME.fullmatch(entry.name))
            ours = [entry for entry in named if owned.is_ours(Path(entry.path))]
            return [Path(entry.path) for entry in sorted(ours, key=lambda entry: entry.stat().st_mtime)]
        return []


class SlotPlace:
    """What one loaded model finds, and leaves: `open`, `take` each, `keep` each, `close`. Methods raise OSError."""

    def __init__(self, cache: SlotCache, key: str, weights: Path) -> None:
        self.path = cache.root / f"{key}.{secrets.token_hex(4)}"  # the engine's
        self._cache = cache
        self._saved = cache.root / key
        self._weights = weights
        self._sizes: list[int] = []  # of what is kept

    def open(self) -> None:
        """Make the engine's directory."""
        self._cache.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._make()

    def saved(self) -> tuple[int, ...]:
        """The sizes of what was saved, the most recently used slot first; `take` tells whether it is still there."""
        record = _read_record(self._saved) if owned.is_ours(self._saved) else None
        return record.sizes if record else ()

    def take(self, rank: int, size: int) -> str:
        """Move a slot's files to the engine's directory; the name to restore it by, "" for one that is not whole."""
        files = list(_files(self._saved, rank))
        found = sum(file.stat().st_size for file in files)
        for file in files:
            file.rename(self.path / file.name)
        return _file_name(rank) if found == size > 0 else ""

    def empty(self) -> None:
        """Remove what was taken: the engine has it in memory, or does not want it."""
        for file in self.path.glob("*.slot*"):
            file.unlink()

    def make_room(self, size: int) -> str:
        """The name to save the next slot by, "" when its `size` in bytes is too much. What was saved before gives way."""
        self._make()
        _remove(self._saved)
        return _file_name(len(self._sizes)) if self._cache.make_room(size, self.path) else ""

    def keep(self) -> None:
        """The engine has saved that slot: it stays, if it is no larger than it was said to be."""
        rank = len(self._sizes)
        if self._cache.make_room(0, self.path):
            self._sizes.append(sum(file.stat().st_size for file in _files(self.path, rank)))
        else:
            self._remove(rank)

    def discard(self) -> None:
        """Keep nothing."""
        self._sizes.clear()

    def close(self) -> None:
        """The engine has ended: what is kept is there from now on, as long as its model file is."""
        if self._sizes:
            self._remove(len(self._sizes))  # what it was writing when its time was over
            _write_record(self.path, _Record(str(self._weights), tuple(self._sizes)))
            _remove(self._saved)
            self.path.rename(self._saved)
        if not self._weights.exists():  # looked for last: who removes it sweeps afterwards
            _remove(self._saved)
        _remove(self.path)
        self.discard()

    def _make(self) -> None:
        self.path.mkdir(exist_ok=True, mode=0o700)
        owned.mark(self.path)

    def _remove(self, rank: int) -> None:
        for file in _files(self.path, rank):
            file.unlink()


def _key(request: LoadRequest) -> str:
    """What has to be the same for slots to fit: the model file, the engine and the shape of its cache."""
    spec = describe(request)
    files = [_identity(path) for path in (spec.weights, spec.executable, *spec.adapters)]
    shape = (spec.num_ctx, spec.num_parallel, spec.num_gpu)  # llama.cpp's files hold the number of slots
    parts = (spec.kind, request.engine.build, *files, *shape, spec.flash_attention, spec.cache_type)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _identity(path: str) -> tuple[str, int, int]:
    """A file, and what changes when another one takes its place."""
    with suppress(OSError):
        status = Path(path).stat()
        return path, status.st_size, status.st_mtime_ns
    return path, 0, 0


def _remove(directory: Path) -> None:
    """Remove a directory of slots; one that is not ours, and what an engine did not put there, stays."""
    owned.remove(directory, lambda name: name == _RECORD or _FILE.match(name))


def _file_name(rank: int) -> str:
    return f"{rank}.slot"


def _files(directory: Path, rank: int) -> Iterator[Path]:
    """The files of a slot: some engines write more than one, their names beginning like the first's."""
    return directory.glob(f"{_file_name(rank)}*")


def _size(directory: Path) -> int:
    total = 0
    for file in directory.glob("*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def _is_unwanted(path: Path) -> bool:
    """Whether nobody will restore from this directory: its model file is gone, or its server."""
    if "." in path.name:
        return time.time() - path.stat().st_mtime > _LEFT_OVER
    record = _read_record(path)
    return record is None or not Path(record.weights).exists()


def _read_record(directory: Path) -> _Record | None:
    try:
        with (directory / _RECORD).open("rb") as file:
            return msgspec.json.decode(file.read(_LONGEST_RECORD), type=_Record)
    except (OSError, msgspec.DecodeError):
        return None


def _write_record(directory: Path, record: _Record) -> None:
    path = directory / _RECORD
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(record))
