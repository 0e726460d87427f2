"""The skeleton of a JSON text: what stands outside its strings, counted before a parser takes memory for it.

A parser of one thread holds all others while it makes a million objects; so that nobody waits, there are no more than the
bounds allow. All of this is a few passes over the bytes, and for everyday bodies only the first few.
"""

from serow import bounds
from serow.errors import RequestError

_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))  # every digit a zero, all else a space
_TOO_LONG = b"0" * (bounds.DIGITS.limit + 1)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_PIECE = 1 << 20  # bytes
_NAME = "the request body"


def check(body: bytes) -> None:
    """Raise RequestError for a body that holds more than the bounds of `values` to `escapes` allow."""
    has_long_number = _has_long_number(body)
    bounds.ESCAPES.check(body.count(b"\\"), _NAME)
    is_small = body.count(b",") <= bounds.VALUES.limit and body.count(b":") <= bounds.KEYS.limit
    if is_small and not has_long_number and body.count(b"{") + body.count(b"[") <= bounds.DEPTH.limit:
        return
    skeleton = _outside_strings(body)
    bounds.VALUES.check(skeleton.count(b","), _NAME)
    bounds.KEYS.check(skeleton.count(b":"), _NAME)
    bounds.CONTAINERS.check(skeleton.count(b"{") + skeleton.count(b"["), _NAME)
    if has_long_number and _has_long_number(skeleton):
        raise RequestError(f"{_NAME} holds a number of more than {bounds.DIGITS.limit} digits")
    _check_depth(skeleton.translate(None, _NO_BRACKETS))


def _has_long_number(text: bytes) -> bool:
    """Whether there are more digits in a row than a number may have, seen in pieces of a millisecond each."""
    size = bounds.DIGITS.limit
    return len(text) > size and any(
        _TOO_LONG in text[start : start + _PIECE + size].translate(_DIGITS) for start in range(0, len(text), _PIECE)
    )


def _outside_strings(body: bytes) -> bytes:
    """What is left without strings. Where it errs, behind a backslash outside of one, the text is no JSON."""
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"")
    bounds.VALUES.check(bare.count(b'"') // 4, _NAME)  # a key and a value
    return b"".join(bare.split(b'"')[::2])


def _check_depth(brackets: bytes) -> None:
    """The first value counts; what follows it is not read (GEN-01)."""
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > bounds.DEPTH.limit:
            raise RequestError(f"{_NAME} is nested too deeply: more than {bounds.DEPTH.limit} levels")
        if depth <= 0:
            return
