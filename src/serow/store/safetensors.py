"""safetensors files: the header read and checked, the tensors left alone.

Source: https://github.com/huggingface/safetensors#format. Eight bytes of length, that much JSON, then the tensors' bytes.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from serow.errors import ModelFileError
from serow.store.blobs import disk_errors

_LENGTH = 8  # bytes of the header's length, little endian
_LONGEST_HEADER = 100_000_000  # bytes, the format's own limit
_MOST_TENSORS = 1 << 16
_LONGEST_NAME = 500  # characters of a tensor's
_Size = Annotated[int, Meta(ge=0, le=1 << 62)]
_METADATA = "__metadata__"
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip


class Tensor(Struct, frozen=True):
    """What a header says of a tensor: its type ("F16") and its shape."""

    dtype: Annotated[str, Meta(max_length=32)]
    shape: Annotated[list[_Size], Meta(max_length=16)]
    data_offsets: tuple[_Size, _Size]


class Header(Struct, frozen=True):
    """The tensors of a file by name, and what stands beside them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


_Name = Annotated[str, Meta(max_length=_LONGEST_NAME)]
_Entries = Annotated[dict[_Name, msgspec.Raw], Meta(max_length=_MOST_TENSORS)]


def read_header(path: Path) -> Header:
    """The header of a file, checked against its size; raises ModelFileError when it is broken, StoreError."""
    with disk_errors(), path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(_LENGTH), "little")
        if not 0 < length <= min(_LONGEST_HEADER, size - _LENGTH):
            raise _broken("its header is cut or longer than the file")
        header = _decode(file.read(length))
    for tensor in header.tensors.values():
        _check(tensor, size - _LENGTH - length)
    return header


def read_shapes(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Type and shape of every tensor of a file by name; raises ModelFileError when it is broken, StoreError."""
    return {name: (tensor.dtype, tensor.shape) for name, tensor in read_header(path).tensors.items()}


@contextmanager
def named(file: str) -> Iterator[None]:
    """Have what is said of a broken file begin with its name, which a blob does not have."""
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(f"{file}: {error}", hint=error.hint) from error


def shapes_of(types: Mapping[str, tuple[str, list[int]]]) -> dict[str, tuple[int, ...]]:
    """The shapes alone."""
    return {name: tuple(shape) for name, (_, shape) in types.items()}


def count_types(shapes: Mapping[str, tuple[str, list[int]]]) -> Counter[str]:
    """How many numbers of each type ("F16") there are."""
    counts: Counter[str] = Counter()
    for dtype, shape in shapes.values():
        counts[dtype] += math.prod(shape)
    return counts


def _decode(header: bytes) -> Header:
    try:
        entries = msgspec.json.decode(header, type=_Entries)
        metadata = entries.pop(_METADATA, msgspec.Raw(b"{}"))
        tensors = {name: msgspec.json.decode(entry, type=Tensor) for name, entry in entries.items()}
        return Header(tensors, msgspec.json.decode(metadata, type=dict[str, str]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _broken("its header is not what the format says") from None


def _check(tensor: Tensor, room: int) -> None:
    """Refuse a tensor that lies outside the file, or whose place does not fit its shape."""
    start, end = tensor.data_offsets
    if not start <= end <= room:
        raise _broken("a tensor lies outside of it")
    if math.prod(tensor.shape) * _BITS.get(tensor.dtype, 1) > (end - start) * 8:
        raise _broken("a tensor is larger than its place")


def _broken(reason: str) -> ModelFileError:
    return ModelFileError(f"a safetensors file is broken: {reason}")
