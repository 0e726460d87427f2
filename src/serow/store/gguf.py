"""A reader of GGUF files, versions 2 and 3, that believes nothing: every count, length and offset is held against the file.

Layout, as ggml's docs/gguf.md has it, little endian:

    "GGUF"  version u32  tensors u64  entries u64
    entry   = key string, type u32, value          string = length u64, bytes      array = type u32, count u64, values
    tensor  = name string, dimensions u32, u64 each, type u32, offset u64
    padding to general.alignment, then the tensors' data

The vocabulary's arrays hold hundreds of thousands of strings. They are stepped over, not built, unless asked for.
"""

import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from serow.errors import ModelFileError
from serow.store.blobs import disk_errors
from serow.store.ggml import TENSOR_TYPES

_METADATA_LIMIT = 128 << 20  # bytes before the tensors' data; the largest vocabularies known take 40 MB
_NUM_ENTRIES_LIMIT = 4096  # a rich file has a hundred
_NUM_TENSORS_LIMIT = 1 << 16
_NUM_STRINGS_LIMIT = 1 << 21  # in one array
ORIGINAL_SHAPE = "comfy.gguf.orig_shape."  # before a tensor's name: key of the shape that it had
_KEPT = 1024  # elements; a longer array of numbers is stepped over, as every array of strings is
_MOST_SHOWN = 1 << 21, 64 << 20  # elements, and bytes, of the arrays of a file that are built on request
_LONGEST_KEY = (1 << 16) - 1  # bytes, as the format has it
_LONGEST_NAME = 255  # bytes of a tensor's; ggml takes 63
_LONGEST_TEXT = 1 << 20  # bytes of a text of the metadata; a longer one, as a whole tokenizer.json, is stepped over
_MOST_TEXT = 16 << 20  # bytes of all of them
_READ = 1 << 20  # bytes read at a time
_MAGIC = b"GGUF"
STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_SCALARS = {kind: struct.Struct(f"<{code}") for kind, code in _NUMBERS.items()}
U64 = _SCALARS[10]
_LEAST_ENTRY = 8 + 4 + 1  # bytes
_LEAST_TENSOR = 8 + 4 + 8 + 4 + 8


@dataclass(frozen=True)
class Array:
    """An array of the metadata, between two places of the file. `values` is None when it was stepped over."""

    count: int
    start: int
    end: int
    values: list[Any] | None


@dataclass(frozen=True)
class LongText:
    """A text of the metadata that was stepped over; `size` in bytes."""

    size: int


@dataclass(frozen=True)
class Tensor:
    """A tensor: innermost dimension first; `offset` in bytes from the start of the data."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Gguf:
    """What a file says about itself. Arrays of `metadata` are `Array`, long texts `LongText`."""

    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]


class _Cursor:
    """A place in a file's head. `data` is what was read so far, from the start."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = min(size, _METADATA_LIMIT)
        self.data = bytearray()
        self.at = 0
        self._num_text = 0  # bytes of texts that are kept
        self._shown = [0, 0]  # elements and bytes of arrays that were built on request

    @property
    def left(self) -> int:
        """Bytes that may still follow."""
        return self._size - self.at

    def fetch(self, end: int) -> None:
        """Have the bytes before `end` in `data`."""
        if end > self._size:
            raise ModelFileError("the file ends inside its metadata")
        while len(self.data) < end:
            chunk = self._file.read(max(end - len(self.data), min(_READ, self._size - len(self.data))))
            if not chunk:
                raise ModelFileError("the file ends inside its metadata")
            self.data += chunk

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self.fetch(self.at + count)
        self.at += count
        return bytes(self.data[self.at - count : self.at])

    def number(self, kind: int) -> Any:
        """The next number, of a type of `_NUMBERS`."""
        form = _SCALARS[kind]
        self.fetch(self.at + form.size)
        self.at += form.size
        return form.unpack_from(self.data, self.at - form.size)[0]

    def count(self, least: int, what: str, limit: int = _METADATA_LIMIT) -> int:
        """The next u64 as a number of things of at least `least` bytes each, that must fit into the file."""
        count: int = self.number(10)
        if count * least > self.left or count > limit:
            raise ModelFileError(f"the file claims {count} {what}, more than it has room for")
        return count

    def string(self) -> str:
        return self.take(self.count(1, "characters")).decode("utf-8", "replace")

    def name(self, longest: int, what: str) -> str:
        """The next string, which names something."""
        count = self.count(1, "characters")
        if count > longest:
            raise ModelFileError(f"the file has {what} of {count} bytes: {longest} are allowed")
        self._keep(count)
        return self.take(count).decode("utf-8", "replace")

    def text(self) -> str | LongText:
        """The next string, which says something; a long one is stepped over."""
        count = self.count(1, "characters")
        if count > _LONGEST_TEXT:
            self.skip(count)
            return LongText(count)
        self._keep(count)
        return self.take(count).decode("utf-8", "replace")

    def _keep(self, count: int) -> None:
        self._num_text += count
        if self._num_text > _MOST_TEXT:
            raise ModelFileError(f"the file's names and texts are longer than {_MOST_TEXT} bytes together")

    def skip(self, count: int) -> None:
        """Step over bytes, which are there."""
        self.fetch(self.at + count)
        self.at += count

    def may_show(self, count: int, size: int) -> bool:
        """Whether so many more elements of so many bytes are built on request."""
        self._shown = [self._shown[0] + count, self._shown[1] + size]
        return all(shown <= most for shown, most in zip(self._shown, _MOST_SHOWN, strict=True))

    def skip_strings(self, count: int) -> None:
        """Step over strings; this loop is the time that reading a model takes."""
        data, fetch, unpack, at = self.data, self.fetch, U64.unpack_from, self.at
        for _ in range(count):
            if at + 8 > len(data):
                fetch(at + 8)
            at += 8 + unpack(data, at)[0]
        fetch(at)
        self.at = at


def read(path: Path, *, verbose: bool = False) -> Gguf:
    """Read the head of a file; with `verbose` the values of every array too.

    Raises ModelFileError for anything that is not as it should be, StoreError when the disk fails. Blocks: 10 to 100 ms.
    """
    with disk_errors(), path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        return _read(_Cursor(file, size), size, verbose)


def read_shapes(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Type and shape, rows first, of every tensor of a file by name. Raises ModelFileError, StoreError."""
    found = read(path)
    return {each.name: (each.type, _original(found, each) or list(reversed(each.shape))) for each in found.tensors}


def _original(file: Gguf, tensor: Tensor) -> list[int]:
    """The shape that a tensor of an image model had before its rows were made long enough to be packed; [] for the others."""
    kept = file.metadata.get(f"{ORIGINAL_SHAPE}{tensor.name}")
    values = kept.values if isinstance(kept, Array) else None
    is_one = values is not None and all(isinstance(each, int) for each in values)
    return [*values] if values and is_one and math.prod(values) == math.prod(tensor.shape) else []


def architecture(path: Path) -> str:
    """What a file says that its model is, "" for nothing. Raises ModelFileError, StoreError."""
    found = read(path).metadata.get("general.architecture")
    return found if isinstance(found, str) else ""


def peek(data: bytes) -> tuple[Gguf, bool]:
    """What the beginning of a file tells, up to where the data ends, and whether that is all of its head."""
    metadata: dict[str, Any] = {}
    tensors: list[Tensor] = []
    cursor = _Cursor(io.BytesIO(data), len(data))
    try:
        _check_magic(cursor)
        num_tensors, num_entries = cursor.number(10), cursor.number(10)
        for _ in range(min(num_entries, _NUM_ENTRIES_LIMIT)):
            key = cursor.name(_LONGEST_KEY, "a key")
            metadata[key] = _value(cursor, cursor.number(4), False)
        alignment = _alignment(metadata)
        for _ in range(min(num_tensors, _NUM_TENSORS_LIMIT)):
            tensors.append(_tensor(cursor, alignment))
    except ModelFileError:
        return Gguf(metadata, tuple(tensors)), False  # here the data ends
    return Gguf(metadata, tuple(tensors)), True


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF files do; raises StoreError."""
    with disk_errors(), path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _read(cursor: _Cursor, size: int, verbose: bool) -> Gguf:
    _check_magic(cursor)
    num_tensors = cursor.count(_LEAST_TENSOR, "tensors", _NUM_TENSORS_LIMIT)
    num_entries = cursor.count(_LEAST_ENTRY, "metadata entries", _NUM_ENTRIES_LIMIT)
    metadata: dict[str, Any] = {}
    for _ in range(num_entries):
        key = cursor.name(_LONGEST_KEY, "a key")
        if not key or key in metadata:
            raise ModelFileError("the file names a metadata entry twice, or not at all")
        metadata[key] = _value(cursor, cursor.number(4), verbose)
    alignment = _alignment(metadata)
    tensors = tuple(_tensor(cursor, alignment) for _ in range(num_tensors))
    _check_data(tensors, size - math.ceil(cursor.at / alignment) * alignment)
    return Gguf(metadata, tensors)


def _check_magic(cursor: _Cursor) -> None:
    if cursor.left < 24 or cursor.take(4) != _MAGIC:
        raise ModelFileError("the file is not in GGUF format")
    version = cursor.number(4)
    if version not in (2, 3):
        known = "big-endian" if version in (2 << 24, 3 << 24) else f"version {version}"
        raise ModelFileError(f"the file is GGUF of an unsupported kind: {known}")


def _value(cursor: _Cursor, kind: int, verbose: bool) -> Any:
    if kind == STRING:
        return cursor.text()
    if kind == _ARRAY:
        return _array(cursor, verbose)
    if kind not in _NUMBERS:
        raise ModelFileError(f"the file has metadata of the unknown type {kind}")
    return cursor.number(kind)


def _array(cursor: _Cursor, verbose: bool) -> Array:
    kind = cursor.number(4)
    if kind == STRING:
        return _string_array(cursor, verbose)
    if kind == _ARRAY:
        raise ModelFileError("the file has an array of arrays")
    if kind not in _NUMBERS:
        raise ModelFileError(f"the file has an array of the unknown type {kind}")
    width = _SCALARS[kind].size
    count = cursor.count(width, "numbers")
    start = cursor.at
    cursor.skip(count * width)
    is_kept = count <= _KEPT or (verbose and cursor.may_show(count, count * width))
    values = list(struct.unpack_from(f"<{count}{_NUMBERS[kind]}", cursor.data, start)) if is_kept else None
    return Array(count, start, cursor.at, values)


def _string_array(cursor: _Cursor, verbose: bool) -> Array:
    count = cursor.count(U64.size, "strings", _NUM_STRINGS_LIMIT)
    start = cursor.at
    cursor.skip_strings(count)
    end = cursor.at
    if not verbose or not cursor.may_show(count, end - start):
        return Array(count, start, end, None)
    cursor.at = start
    return Array(count, start, end, [cursor.string() for _ in range(count)])


def _alignment(metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1) or alignment > 1 << 20:
        raise ModelFileError("the file's alignment is not a power of two")
    return alignment


def _tensor(cursor: _Cursor, alignment: int) -> Tensor:
    name = cursor.name(_LONGEST_NAME, "a tensor's name")
    num_dimensions = cursor.number(4)
    if not 1 <= num_dimensions <= 4:
        raise ModelFileError(f"the file has a tensor of {num_dimensions} dimensions")
    shape = tuple(cursor.number(10) for _ in range(num_dimensions))
    kind, offset = cursor.number(4), cursor.number(10)
    if kind not in TENSOR_TYPES:
        raise ModelFileError(f"the file has a tensor of the unknown type {kind}")
    if not all(shape) or shape[0] % TENSOR_TYPES[kind].block_size:
        raise ModelFileError("the file has a tensor of an impossible shape")
    if offset % alignment:
        raise ModelFileError("the file has a tensor that is not aligned")
    return Tensor(name, TENSOR_TYPES[kind].name, shape, offset)


_BYTES = {kind.name: (kind.block_size, kind.block_bytes) for kind in TENSOR_TYPES.values()}


def _check_data(tensors: tuple[Tensor, ...], available: int) -> None:
    """Every tensor lies inside the file, and each has its own name."""
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise ModelFileError("the file names a tensor twice")
    for tensor in tensors:
        block_size, block_bytes = _BYTES[tensor.type]
        if tensor.offset + tensor.size // block_size * block_bytes > available:
            raise ModelFileError("the file ends before its tensors do")
