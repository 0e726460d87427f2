"""A model file that holds another one's vocabulary and chat template, and next to nothing beside: to count tokens with.

Engines load whole models only. So the entries about texts are put into the smallest model that an engine takes, one block of
zeros: it tokenizes and renders as the other does, loads in a moment and answers nothing. One that only renders needs no more
of the vocabulary than what a template can see: the tokens that a text begins and ends with.
"""

import io
import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

from serow.errors import ModelFileError
from serow.store import gguf, gguf_arrays
from serow.store.blobs import disk_errors
from serow.store.gguf import Array, LongText

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
_NUM_FIRST = 128  # tokens that every vocabulary begins with: an engine's defaults for those that a file does not name
_LARGEST = 4 << 20  # bytes of a file that only renders
_COPIED = ("tokenizer.chat_templates", "tokenizer.ggml.precompiled_charsmap")  # arrays that are needed without a vocabulary
_VECTORS = ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm")
_MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def write(source: Path, target: Path) -> None:
    """Write the file for the model of `source`; raises ModelFileError, StoreError. Blocks: 10 to 200 ms."""
    metadata = _about_texts(source)
    tokens = metadata.get("tokenizer.ggml.tokens")
    tensors = _tensors(tokens.count if isinstance(tokens, Array) else 0)
    with disk_errors(), source.open("rb") as file, target.open("wb") as out:
        _write_head(out, len(tensors), len(metadata))
        for name, value in metadata.items():
            _write_value(out, name, value, file)
        _write_tensors(out, tensors)


def that_renders(source: Path) -> bytes:
    """The bytes of a file that renders as the model of `source` does, and tokenizes nothing.

    Raises ModelFileError, StoreError. Blocks: 10 to 200 ms.
    """
    metadata = _about_texts(source)
    tokens, kinds = (metadata.get(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type"))
    count = tokens.count if isinstance(tokens, Array) else 0
    named = {value for name, value in metadata.items() if name.endswith("_token_id") and type(value) is int}
    kept = sorted({*range(min(count, _NUM_FIRST)), *(number for number in named if 0 <= number < count)})
    tensors, out = _tensors(len(kept)), io.BytesIO()
    arrays = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.merges": ()}
    scalars = {name: value for name, value in metadata.items() if name in _COPIED or not isinstance(value, Array)}
    with disk_errors(), source.open("rb") as file:
        written = [name for name in arrays if isinstance(metadata.get(name), Array)]
        _write_head(out, len(tensors), len(scalars) + len(written))
        for name, value in scalars.items():
            is_place = name.endswith("_token_id") and type(value) is int
            _write_value(out, name, (kept.index(value) if value in kept else -1) if is_place else value, file)
        for name in written:
            _write_entry(out, name, _ARRAY, gguf_arrays.elements(source, metadata[name], kept if arrays[name] else ()))
    if out.tell() > _LARGEST:
        raise ModelFileError("the file's texts are too long")
    _write_tensors(out, tensors)
    return out.getvalue()


def _about_texts(source: Path) -> dict[str, Any]:
    """The entries about texts; one that is stepped over for its length is a whole tokenizer.json, which no engine reads."""
    entries = gguf.read(source).metadata.items()
    return {key: value for key, value in entries if key.startswith("tokenizer.") and not isinstance(value, LongText)}


def _write_head(out: BinaryIO, num_tensors: int, num_entries: int) -> None:
    out.write(b"GGUF" + struct.pack("<IQQ", 3, num_tensors, num_entries + len(_ENTRIES) + 2))
    _write_entry(out, "general.architecture", _STRING, _text("llama"))
    _write_entry(out, "llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5))
    for name, number in _ENTRIES.items():
        _write_entry(out, name, 4, struct.pack("<I", number))


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
    end = _aligned(out.tell()) + offset
    out.seek(end - 1)
    out.write(b"\0")


def _aligned(size: int) -> int:
    return math.ceil(size / _ALIGNMENT) * _ALIGNMENT
