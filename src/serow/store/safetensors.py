"""safetensors files: the header read and checked, the tensors left alone.

Source: https://github.com/huggingface/safetensors#format. Eight bytes of length, that much JSON, then the tensors' bytes.
"""

import math
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from serow.errors import ModelFileError
from serow.store.blobs import disk_errors

_LENGTH = 8  # bytes of the header's length, little endian
_LONGEST_HEADER = 100_000_000  # bytes, the format's own limit
_MOST_TENSORS = 1 << 16
_Size = Annotated[int, Meta(ge=0, le=1 << 62)]
_METADATA = "__metadata__"
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip


class _Tensor(Struct):
    dtype: str
    shape: Annotated[list[_Size], Meta(max_length=16)]
    data_offsets: tuple[_Size, _Size]


_Entries = Annotated[dict[str, msgspec.Raw], Meta(max_length=_MOST_TENSORS)]


def count_parameters(path: Path) -> dict[str, int]:
    """How many numbers of each type ("F16") a file holds; raises ModelFileError when it is broken, StoreError."""
    with disk_errors(), path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(_LENGTH), "little")
        if not 0 < length <= min(_LONGEST_HEADER, size - _LENGTH):
            raise _broken("its header is cut or longer than the file")
        header = file.read(length)
    counts: dict[str, int] = {}
    for tensor in _tensors(header):
        _check(tensor, size - _LENGTH - length)
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + math.prod(tensor.shape)
    return counts


def _tensors(header: bytes) -> list[_Tensor]:
    try:
        entries = msgspec.json.decode(header, type=_Entries)
        return [msgspec.json.decode(entry, type=_Tensor) for name, entry in entries.items() if name != _METADATA]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _broken("its header is not what the format says") from None


def _check(tensor: _Tensor, room: int) -> None:
    """Refuse a tensor that lies outside the file, or whose place does not fit its shape."""
    start, end = tensor.data_offsets
    if not start <= end <= room:
        raise _broken("a tensor lies outside of it")
    if math.prod(tensor.shape) * _BITS.get(tensor.dtype, 1) > (end - start) * 8:
        raise _broken("a tensor is larger than its place")


def _broken(reason: str) -> ModelFileError:
    return ModelFileError(f"a safetensors file is broken: {reason}")
