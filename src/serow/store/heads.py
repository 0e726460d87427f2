"""The heads of model files, which strangers wrote: read in the processes of a pool where there is one, and remembered."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from serow.errors import LimitExceeded, ModelFileError
from serow.store import adapter, file_info, fits, gguf, guesser, parts, safetensors, weights
from serow.store.blobs import disk_errors
from serow.store.file_info import FileInfo
from serow.store.weights import Weights
from serow.workers.pool import Limits, Pool

LIMITS = Limits(cpu=5.0, memory=480 << 20)  # 40 MB of vocabulary, the most that is known, take 0.1 s
_REMEMBERED = 1024  # files
_MOST_REMEMBERED = 64 << 20  # bytes of them, about

_Stamp = tuple[int, int]
_Value = TypeVar("_Value")
_Ts = TypeVarTuple("_Ts")


def _stamp(path: Path) -> _Stamp:
    """Changes with the file."""
    with disk_errors():
        status = path.stat()
    return status.st_mtime_ns, status.st_size


def _size(found: Weights) -> int:
    """Bytes, about: what a stranger's file can make large."""
    return len(found.chat_template) + 64 * (len(found.control_tokens) + len(found.whole_tokens))


class Heads:
    """Methods block, so call them in a thread; the loop's own thread reads itself."""

    def __init__(self, pool: Pool | None = None) -> None:
        self._pool = pool
        self._known: dict[tuple[Path, ...], tuple[_Stamp, Weights]] = {}
        self._size = 0  # bytes of these, about
        self._misfits: dict[tuple[Path, Path], tuple[tuple[_Stamp, _Stamp], str]] = {}

    def describe(self, path: Path, *others: Path) -> Weights:
        """`weights.describe`; microseconds as long as the file is what it was: many models share one."""
        stamp, known = _stamp(path), self._known.get((path, *others))
        if known is not None and known[0] == stamp:
            return known[1]
        found = self._read(weights.describe, path, others)
        self._size += _size(found)
        if len(self._known) >= _REMEMBERED or self._size > _MOST_REMEMBERED:
            self._known.clear()
            self._size = _size(found)
        self._known[(path, *others)] = stamp, found
        return found

    def misfit(self, path: Path, draft: Path) -> str:
        """`guesser.misfit`; remembered as long as both files are what they were."""
        stamps, known = (_stamp(path), _stamp(draft)), self._misfits.get((path, draft))
        if known is not None and known[0] == stamps:
            return known[1]
        if len(self._misfits) >= _REMEMBERED:
            self._misfits.clear()
        self._misfits[path, draft] = stamps, (found := self._read(guesser.misfit, path, draft))
        return found

    def describe_part(self, path: Path) -> Weights:
        """What the first part of a split model says; raises ModelFileError, StoreError."""
        return self._read(weights.describe, path, (), True)

    def info(self, path: Path, verbose: bool) -> FileInfo:
        """What /api/show tells of a file; raises ModelFileError, StoreError."""
        return self._read(file_info.read, path, verbose)

    def check_fit(self, lora: Path, weights: Path) -> None:
        """Raise ModelFileError with why an adapter does not fit a model, StoreError."""
        self._read(adapter.check_files, lora, weights)

    def check_parts(
        self,
        which: Mapping[str, tuple[str, str]],
        files: Mapping[str, Path],
        data: Mapping[str, bytes],
        other: Mapping[str, fits.Shapes],
    ) -> dict[str, dict[str, tuple[str, list[int]]]]:
        """`parts.check_files`: raises ModelFileError for a part of a pipeline that can't be what its index says, StoreError."""
        return self._read(parts.check_files, dict(which), dict(files), dict(data), dict(other))

    def shapes_in_gguf(self, path: Path) -> dict[str, tuple[str, list[int]]]:
        """Type and shape, rows first, of every tensor of a GGUF file by name; raises ModelFileError, StoreError."""
        return self._read(gguf.read_shapes, path)

    def architecture(self, path: Path) -> str:
        """What a GGUF file says that it is, "" for nothing; raises ModelFileError, StoreError."""
        return self._read(gguf.architecture, path)

    def place(self, path: Path) -> tuple[int, int]:
        """Which part of how many a file of a split model is; raises ModelFileError, StoreError."""
        return self._read(weights.place, path)

    def read_shapes(self, path: Path) -> dict[str, tuple[str, list[int]]]:
        """Type and shape of every tensor of a safetensors file by name; raises ModelFileError, StoreError."""
        return self._read(safetensors.read_shapes, path)

    def _read(self, function: Callable[[*_Ts], _Value], *args: *_Ts) -> _Value:
        if self._pool is None:
            return function(*args)
        try:
            return self._pool.call(function, *args, limits=LIMITS)
        except LimitExceeded as error:
            raise ModelFileError(f"the file can't be read: the work on its head {error.reason}") from None
