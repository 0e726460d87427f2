"""JSON as Go's encoding/json reads it, where clients rely on it (GEN-01), and as our records leave.

Keys match in any case, the last of a duplicate wins, null is absent, what follows the first value is ignored, a lone
surrogate becomes U+FFFD.
"""

import json
import math
import re
import time
from collections.abc import Container
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from serow import bounds
from serow.errors import RequestError
from serow.wire import skeleton
from serow.wire.long_texts import LongTexts, not_json, without_surrogates

_Request = TypeVar("_Request", bound=msgspec.Struct)

_JSON_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
}
_PIECE = 256 << 10  # bytes


def _ordered(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict whose order is that of each key's last occurrence, so that a later spelling of a name wins."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        found.pop(key, None)
        found[key] = value
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _real(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is out of range")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_ordered, parse_constant=_no_constant, parse_float=_real)


def _replace_surrogates(value: Any) -> None:
    """Put U+FFFD for every lone surrogate in a list or an object and all that is in it, without recursion."""
    left = [value]
    while left:
        node = left.pop()
        if isinstance(node, list):
            node[:] = map(_clean, node)
            left += [item for item in node if isinstance(item, (list, dict))]
        else:
            items = [(_clean(key), _clean(item)) for key, item in node.items()]
            node.clear()
            node.update(items)
            left += [item for _, item in items if isinstance(item, (list, dict))]


def _clean(value: Any) -> Any:
    return without_surrogates(value) if isinstance(value, str) else value


def decode_object(body: bytes, nulls: Container[str] = ()) -> dict[str, Any]:
    """Read a request body: an object with lower-case keys and without nulls, its own values untouched otherwise.

    Of the fields `nulls` a null stays: it says something there.

    Raises RequestError for an empty body, broken JSON, a value that is not an object, or more than the bounds allow.
    """
    texts = LongTexts(body)
    skeleton.check(texts.rest)
    text, broken_at = _text(texts.rest)
    if not text and broken_at is None:
        raise RequestError("missing request body")
    try:
        value, _ = _DECODER.raw_decode(text)
    except RecursionError:
        raise RequestError("the request body is nested too deeply") from None
    except ValueError as error:
        if broken_at is not None:
            place = broken_at + texts.num_left_out(texts.rest[:broken_at].decode(), in_bytes=True)
            raise RequestError(f"the request body is not valid UTF-8 at byte {place}") from None
        raise _refusal(error, texts) from None
    if not isinstance(value, dict):
        raise RequestError(f"the request body must be a JSON object, not {_name_of(value)}")
    bounds.FIELDS.check(len(value), "the request body")
    if b"\\ud" in texts.rest or b"\\uD" in texts.rest:
        _replace_surrogates(value)
    texts.put_back(value)
    return {key.lower(): item for key, item in value.items() if item is not None or key.lower() in nulls}


def _text(body: bytes) -> tuple[str, int | None]:
    """The text of a body, and at which byte it stops being UTF-8: no fault behind the first value, which alone is read."""
    begin = _first_value(body)
    rest = body[begin:] if begin else body
    try:
        return rest.decode(), None
    except UnicodeDecodeError as error:
        return rest[: error.start].decode(), begin + error.start


def _first_value(body: bytes) -> int:
    """Where the space ends that a body begins with; it is looked through in pieces, since megabytes of it hold everybody up."""
    for start in range(0, len(body), _PIECE):
        piece = body[start : start + _PIECE]
        if rest := len(piece.lstrip(b" \t\r\n")):
            return start + len(piece) - rest
    return len(body)


def _refusal(error: ValueError, texts: LongTexts) -> RequestError:
    if isinstance(error, json.JSONDecodeError):
        return not_json(error.msg, error.pos + texts.num_left_out(error.doc[: error.pos]))
    return RequestError(f"the request body is not valid JSON: {str(error).split(';')[0]}")


def _name_of(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


def convert(fields: dict[str, Any], kind: type[_Request]) -> _Request:
    """Check the types of a body's fields; raises RequestError that names the field."""
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise RequestError(_sentence(str(error))) from None


_MISMATCH = re.compile(r"Expected `(?P<expected>[^`]+)`, got `(?P<got>[^`]+)` - at `\$\.?(?P<at>[^`]*)`")


def _sentence(text: str) -> str:
    """Turn msgspec's ``Expected `bool`, got `str` - at `$.stream` `` into a sentence that names the field."""
    match = _MISMATCH.search(text)
    if match is None:
        return text[:1].lower() + text[1:]
    expected, got = (_JSON_NAMES.get(match[key].split(" |")[0], match[key]) for key in ("expected", "got"))
    return f'"{match["at"]}" must be {expected}, not {got}'


def now() -> str:
    """The time as `created_at` has it: RFC 3339, UTC, nanoseconds."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second(seconds)}.{nanoseconds:09d}Z"


@lru_cache(maxsize=2)  # every token of a second asks for the same one
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


_ENCODER = msgspec.json.Encoder()
_LINE_BREAKS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))


def encode(value: Any) -> bytes:
    """JSON in which no character but a newline ends a line: clients split at U+2028, U+2029 and U+0085 (RES-03)."""
    data = _ENCODER.encode(value)
    if not data.isascii():
        for raw, escaped in _LINE_BREAKS:
            data = data.replace(raw, escaped)
    return data


def encode_line(value: Any) -> bytes:
    """One line of a stream."""
    return encode(value) + b"\n"
