"""The pieces of a SentencePiece model: the few fields of its protocol buffer that are needed.

`ModelProto { repeated SentencePiece pieces = 1 }`, `SentencePiece { string piece = 1; float score = 2; Type type = 3 }`.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from serow.library.conversion.gguf_file import Refusal

_NORMAL = 1
_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5  # kinds of fields


class Piece(NamedTuple):
    """A piece of text; types are numbered as GGUF has them, too."""

    text: str
    score: float
    type: int


def pieces_of(data: bytes) -> Iterator[Piece]:
    """Every piece, in order; raises Refusal for what is no such model."""
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            found = dict(_fields(value))
            text, score, kind = found.get(1, b""), found.get(2, 0.0), found.get(3, _NORMAL)
            if not isinstance(text, bytes) or not isinstance(score, float) or not isinstance(kind, int):
                raise Refusal("tokenizer.model is not what SentencePiece writes")
            yield Piece(text.decode("utf-8", "replace"), score, kind)


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int | float]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        length, at = _varint(data, at) if kind == _LEN else ({_I64: 8, _I32: 4}.get(kind, len(data)), at)
        if at + length > len(data):
            raise Refusal("tokenizer.model is not what SentencePiece writes")
        piece, at = data[at : at + length], at + length
        yield tag >> 3, struct.unpack("<f", piece)[0] if kind == _I32 else piece


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at
    raise Refusal("tokenizer.model is not what SentencePiece writes")
