"""GGUF files written by hand, so that they can be wrong."""

import struct
from collections.abc import Iterable

MODEL = {
    "general.architecture": "toy",
    "toy.block_count": 2,
    "toy.context_length": 64,
    "toy.embedding_length": 32,
    "toy.attention.head_count": 4,
}
WEIGHT = ("weight", (32, 2), 0, 0)  # name, shape, type (F32), offset
_UINT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 6, 7, 8, 9


def string(text: str) -> bytes:
    """A string as GGUF has it."""
    return struct.pack("<Q", len(text.encode())) + text.encode()


def array(kind: int, count: int, data: bytes) -> bytes:
    """An array whose count may lie, as a value of an entry."""
    return struct.pack("<IIQ", _ARRAY, kind, count) + data


def value(what: object) -> bytes:
    """A value with its type; bytes are taken as they are."""
    if isinstance(what, bytes):
        return what
    if isinstance(what, bool):
        return struct.pack("<I?", _BOOL, what)
    if isinstance(what, int):
        return struct.pack("<II", _UINT32, what)
    if isinstance(what, float):
        return struct.pack("<If", _FLOAT32, what)
    if isinstance(what, list):
        return array(_STRING, len(what), b"".join(map(string, what)))
    return struct.pack("<I", _STRING) + string(str(what))


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    """What the head says of a tensor."""
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf_file(
    entries: Iterable[tuple[str, object]] = tuple(MODEL.items()),
    tensors: Iterable[tuple[str, tuple[int, ...], int, int]] = (WEIGHT,),
    *,
    data: bytes = b"\0" * 256,
    magic: bytes = b"GGUF",
    version: int = 3,
    num_tensors: int | None = None,
    num_entries: int | None = None,
) -> bytes:
    """A whole file, as given that of a small model."""
    pairs = list(entries)
    infos = [tensor(*each) for each in tensors]
    counts = (len(infos) if num_tensors is None else num_tensors, len(pairs) if num_entries is None else num_entries)
    head = magic + struct.pack("<IQQ", version, *counts)
    head += b"".join(string(key) + value(what) for key, what in pairs) + b"".join(infos)
    return head + b"\0" * (-len(head) % 32) + data
