"""The skeleton of a JSON text: what stands outside its strings, counted before a parser takes memory for it.

A parser of one thread holds all others while it makes a million objects; so that nobody waits, there are no more than the
bounds allow. All of this is a few passes over the bytes, and for everyday bodies only the first few; a large one is looked
through in pieces of a millisecond each.
"""

from collections.abc import Iterator

from serow import bounds
from serow.errors import RequestError

_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))  # every digit a zero, all else a space
_TOO_LONG = b"0" * (bounds.DIGITS.limit + 1)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_PIECE = 1 << 20  # bytes
_NAME = "the request body"


def check(body: bytes) -> None:
    """Raise RequestError for a body that holds more than the bounds of `values` to `escapes` allow."""
    bounds.ESCAPES.check(body.count(b"\\"), _NAME)
    is_small = body.count(b",") <= bounds.VALUES.limit and body.count(b":") <= bounds.KEYS.limit
    has_long_number = any(map(_has_long_number, _overlapping(body)))
    if is_small and not has_long_number and body.count(b"{") + body.count(b"[") <= bounds.DEPTH.limit:
        return
    counts = _Counts()
    for piece in _outside_strings(body):
        counts.add(piece)


class _Counts:
    """What was met outside strings so far."""

    def __init__(self) -> None:
        self._num_values = self._num_keys = self._num_containers = 0
        self._depth = 0
        self._has_ended = False  # the first value: what follows it is not read (GEN-01)
        self._tail = b""

    def add(self, piece: bytes) -> None:
        """Look at the next piece; raises RequestError as soon as a bound is passed."""
        self._num_values += piece.count(b",")
        self._num_keys += piece.count(b":")
        self._num_containers += piece.count(b"{") + piece.count(b"[")
        bounds.VALUES.check(self._num_values, _NAME)
        bounds.KEYS.check(self._num_keys, _NAME)
        bounds.CONTAINERS.check(self._num_containers, _NAME)
        if _has_long_number(self._tail + piece):
            raise RequestError(f"{_NAME} holds a number of more than {bounds.DIGITS.limit} digits")
        self._tail = (self._tail + piece)[-bounds.DIGITS.limit :]
        self._descend(piece.translate(None, _NO_BRACKETS))

    def _descend(self, brackets: bytes) -> None:
        for bracket in brackets if not self._has_ended else b"":
            self._depth += 1 if bracket in b"[{" else -1
            if self._depth > bounds.DEPTH.limit:
                raise RequestError(f"{_NAME} is nested too deeply: more than {bounds.DEPTH.limit} levels")
            if self._depth <= 0:
                self._has_ended = True
                return


def _has_long_number(text: bytes) -> bool:
    return len(text) > bounds.DIGITS.limit and _TOO_LONG in text.translate(_DIGITS)


def _overlapping(body: bytes) -> Iterator[bytes]:
    """Pieces that no number of too many digits falls between."""
    return (body[start : start + _PIECE + bounds.DIGITS.limit] for start in range(0, len(body), _PIECE))


def _outside_strings(body: bytes) -> Iterator[bytes]:
    """What is left without strings, piece by piece. Where it errs, behind a backslash outside of one, the text is no JSON."""
    is_inside, num_quotes, cut = False, 0, b""
    for start in range(0, len(body), _PIECE):
        piece = cut + body[start : start + _PIECE]
        whole = piece.rstrip(b"\\")
        cut = b"\\" * ((len(piece) - len(whole)) % 2)  # of an escape that goes on in the next piece; pairs are no matter
        parts = whole.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        yield b"".join(parts[1 if is_inside else 0 :: 2])
        is_inside ^= len(parts) % 2 == 0
        num_quotes += len(parts) - 1
        bounds.VALUES.check(num_quotes // 4, _NAME)  # a key and a value
