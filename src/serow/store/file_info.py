"""What /api/show tells of one GGUF file: its metadata as JSON and its tensors, read where a stranger's file may be read."""

import math
import struct
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from serow.store import gguf
from serow.store.gguf import Array, LongText
from serow.store.weights import parameter_count

_EXACT = 2**53  # floats below it are exact as integers
_FLOAT32 = 3.4e38  # about the largest 32-bit float


class TensorInfo(Struct, frozen=True):
    """A tensor of a model file."""

    name: str
    type: str
    shape: list[int]


class FileInfo(Struct, frozen=True):
    """What a file says. `arrays`: lists of the metadata as JSON; `left_out`: keys of those that are too long to be told."""

    metadata: dict[str, Any]
    tensors: list[TensorInfo]
    arrays: dict[str, bytes] = {}
    left_out: list[str] = []


def read(path: Path, verbose: bool) -> FileInfo:
    """Read a file; arrays and what is long are null unless `verbose`. Raises ModelFileError, StoreError. Blocks: up to 1 s."""
    file = gguf.read(path, verbose=verbose)
    values = {**file.metadata, "general.parameter_count": parameter_count(file)}
    lists = {key: value.values for key, value in values.items() if isinstance(value, Array) and value.values is not None}
    is_long = {key: isinstance(value, Array | LongText) for key, value in values.items()}
    return FileInfo(
        {key: None if is_long[key] else _plain(value) for key, value in values.items()},
        [TensorInfo(each.name, each.type, list(each.shape)) for each in file.tensors],
        {key: msgspec.json.encode([*map(_plain, items)]) for key, items in lists.items()} if verbose else {},
        [key for key in values if is_long[key] and key not in lists] if verbose else [],
    )


def _plain(value: Any) -> Any:
    """A number as short as it can be written: files hold 32-bit floats, and 1e-06 shall not become 9.999999974752427e-07."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    if value.is_integer() and abs(value) < _EXACT:
        return int(value)
    short = float(f"{value:.7g}")
    return short if abs(value) < _FLOAT32 and _as_float32(short) == value else value


def _as_float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])
