"""GGUF files as they are copied and written: metadata as bytes, tensors as places in a file.

A file was checked before (`store/gguf.py`); here it is walked through as it is.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from serow.store.ggml import TENSOR_TYPES

ALIGNMENT = 32  # bytes, unless the file says another
STRING, ARRAY, U32, I32, F32_VALUE, BOOL = 8, 9, 4, 5, 6, 7  # kinds of values
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of each kind of value
_COPIED = 8 << 20  # bytes at a time


class Refusal(Exception):
    """A file that nothing can be made of, in words."""


@dataclass(frozen=True)
class Tensor:
    """A tensor: innermost dimension first, `kind` as ggml numbers it, `offset` within the data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int = 0

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.bytes_as(self.kind)

    def bytes_as(self, kind: int) -> int:
        """Its size, packed in another way."""
        _, per, size = TENSOR_TYPES[kind]
        return self.count // per * size


@dataclass(frozen=True)
class Source:
    """A file walked through: its metadata as bytes by key, its tensors, where their data begins."""

    version: int
    metadata: dict[str, bytes]  # kind and value
    tensors: tuple[Tensor, ...]
    start: int
    alignment: int

    def number(self, key: str) -> int:
        """A whole number of the metadata, 0 when it is not there."""
        return int.from_bytes(self.metadata.get(key, b"")[4:], "little")

    @property
    def architecture(self) -> str:
        """What kind of model it is."""
        return self.metadata.get("general.architecture", b"")[12:].decode("utf-8", "replace")


class _Walker:
    """Walks through the head of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def take(self, layout: str) -> tuple[int, ...]:
        size = struct.calcsize(layout)
        data = self._file.read(size)
        if len(data) < size:
            raise Refusal("the file ends too early")
        return struct.unpack(layout, data)

    def string(self) -> bytes:
        (length,) = self.take("<Q")
        return struct.pack("<Q", length) + self._file.read(length)

    def value(self, kind: int) -> bytes:
        """The bytes of a value."""
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self._file.read(_SIZES[kind])
        inner, count = self.take("<IQ")
        head = struct.pack("<IQ", inner, count)
        if inner in _SIZES:
            return head + self._file.read(_SIZES[inner] * count)
        return head + b"".join(self.value(inner) for _ in range(count))


def read(file: BinaryIO) -> Source:
    """Walk through a GGUF's head; raises Refusal."""
    walker = _Walker(file)
    magic, version, num_tensors, num_entries = walker.take("<IIQQ")
    if magic != int.from_bytes(b"GGUF", "little"):
        raise Refusal("the file is not in GGUF format")
    metadata: dict[str, bytes] = {}
    for _ in range(num_entries):
        key = walker.string()[8:].decode()
        (kind,) = walker.take("<I")
        metadata[key] = struct.pack("<I", kind) + walker.value(kind)
    tensors = []
    for _ in range(num_tensors):
        name = walker.string()[8:].decode()
        (sides,) = walker.take("<I")
        shape = walker.take(f"<{sides}Q")
        kind, offset = walker.take("<IQ")
        tensors.append(Tensor(name, shape, kind, offset))
    alignment = int.from_bytes(metadata.get("general.alignment", b"")[4:], "little") or ALIGNMENT
    return Source(version, metadata, tuple(tensors), -(-file.tell() // alignment) * alignment, alignment)


def head(metadata: Mapping[str, bytes], tensors: Sequence[Tensor], alignment: int = ALIGNMENT, version: int = 3) -> bytes:
    """A file's head: the metadata, and the tensors one behind the other, each padded."""
    pieces = [struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(metadata))]
    for key, found in metadata.items():
        pieces += [text(key), found]
    offset = 0
    for tensor in tensors:
        sides = len(tensor.shape)
        pieces += [text(tensor.name), struct.pack(f"<I{sides}QIQ", sides, *tensor.shape, tensor.kind, offset)]
        offset += -(-tensor.size // alignment) * alignment
    whole = b"".join(pieces)
    return whole + bytes(-len(whole) % alignment)


def text(what: str) -> bytes:
    """A text as the format has it."""
    data = what.encode()
    return struct.pack("<Q", len(data)) + data


def string(what: str) -> bytes:
    """A value that is a text."""
    return struct.pack("<I", STRING) + text(what)


def u32(number: int) -> bytes:
    """A value that is a whole number."""
    return struct.pack("<II", U32, number)


def f32(number: float) -> bytes:
    """A value that is a number with a fraction."""
    return struct.pack("<If", F32_VALUE, number)


def flag(what: bool) -> bytes:
    """A value that is true or false."""
    return struct.pack("<I?", BOOL, what)


def strings(what: Sequence[str]) -> bytes:
    """A value that is a list of texts."""
    return struct.pack("<IIQ", ARRAY, STRING, len(what)) + b"".join(map(text, what))


def numbers(what: Sequence[int] | Sequence[float], kind: int) -> bytes:
    """A value that is a list of numbers, of the kind `I32` or `F32_VALUE`."""
    return struct.pack(f"<IIQ{len(what)}{'i' if kind == I32 else 'f'}", ARRAY, kind, len(what), *what)


def pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The next bytes of a file; raises Refusal when they are not there."""
    while size:
        data = file.read(min(size, _COPIED))
        if not data:
            raise Refusal("the file ends too early")
        size -= len(data)
        yield data
