"""A model file that holds another one's vocabulary and chat template, and next to nothing beside: to count tokens with.

Engines load whole models only. So the entries about texts are put into the smallest model that an engine takes, one block of
zeros: it tokenizes and renders as the other does, loads in a moment and answers nothing.
"""

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

from serow.store import gguf
from serow.store.blobs import disk_errors
from serow.store.gguf import Array

_WIDTH = 32  # numbers of a vector
_ALIGNMENT = 32
_F32, _F16 = 0, 1
_SIZES = {_F32: 4, _F16: 2}
_STRING, _ARRAY, _BOOL, _INT64, _F64 = 8, 9, 7, 11, 12
_ENTRIES: dict[str, int | float] = {
    "llama.context_length": 1 << 20,
    "llama.embedding_length": _WIDTH,
    "llama.block_count": 1,
    "llama.feed_forward_length": _WIDTH,
    "llama.attention.head_count": 1,
    "llama.rope.dimension_count": _WIDTH,
}
_VECTORS = ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm")
_MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def write(source: Path, target: Path) -> None:
    """Write the file for the model of `source`; raises ModelFileError, StoreError. Blocks: 10 to 200 ms."""
    metadata = {key: value for key, value in gguf.read(source).metadata.items() if key.startswith("tokenizer.")}
    tokens = metadata.get("tokenizer.ggml.tokens")
    num_tokens = tokens.count if isinstance(tokens, Array) else 0
    tensors = _tensors(num_tokens)
    with disk_errors(), source.open("rb") as file, target.open("wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata) + len(_ENTRIES) + 2))
        _write_entry(out, "general.architecture", _STRING, _text("llama"))
        _write_entry(out, "llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5))
        for name, number in _ENTRIES.items():
            _write_entry(out, name, 4, struct.pack("<I", number))
        for name, value in metadata.items():
            _write_value(out, name, value, file)
        _write_tensors(out, tensors)


def _tensors(num_tokens: int) -> list[tuple[str, tuple[int, ...], int]]:
    vectors = [(f"{name}.weight", (_WIDTH,), _F32) for name in _VECTORS]
    matrices = [(f"blk.0.{name}.weight", (_WIDTH, _WIDTH), _F16) for name in _MATRICES]
    return [("token_embd.weight", (_WIDTH, num_tokens), _F16), *vectors, *matrices]


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _write_entry(out: BinaryIO, name: str, kind: int, data: bytes) -> None:
    out.write(_text(name) + struct.pack("<I", kind) + data)


def _write_value(out: BinaryIO, name: str, value: Any, source: BinaryIO) -> None:
    """An entry as the source has it; numbers in the widest types, which engines take for narrower ones."""
    if isinstance(value, Array):
        source.seek(value.start - 12)  # its type and count stand before it
        _write_entry(out, name, _ARRAY, source.read(value.end - value.start + 12))
    elif isinstance(value, str):
        _write_entry(out, name, _STRING, _text(value))
    elif isinstance(value, bool):
        _write_entry(out, name, _BOOL, struct.pack("<?", value))
    elif isinstance(value, int):
        _write_entry(out, name, 4, struct.pack("<I", value & 0xFFFFFFFF))
    else:
        _write_entry(out, name, 6, struct.pack("<f", value))


def _write_tensors(out: BinaryIO, tensors: list[tuple[str, tuple[int, ...], int]]) -> None:
    """Their heads, then zeros, which take no room on most disks."""
    offset = 0
    for name, shape, kind in tensors:
        out.write(_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        offset += _aligned(math.prod(shape) * _SIZES[kind])
    out.truncate(_aligned(out.tell()) + offset)


def _aligned(size: int) -> int:
    return math.ceil(size / _ALIGNMENT) * _ALIGNMENT
