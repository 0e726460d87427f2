"""Values of a template as Go sees them, and Go's rules about them.

Python's own types stand for Go's: str for string (invalid UTF-8 as surrogate escapes), int for int, float for float64, list
and tuple for []interface {}, dict with text keys for map[string]interface {}, None for a nil interface. What Python lacks is
defined here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

_SURROGATES = re.compile("[\ud800-\udfff]")


class Absence(Enum):
    """Two ways of being nothing beside None: no argument was piped in, or an expression has no value at all."""

    NO_ARGUMENT = 1
    NO_VALUE = 2


NO_ARGUMENT = Absence.NO_ARGUMENT
NO_VALUE = Absence.NO_VALUE


class Byte(int):
    """Go's uint8: what indexing a string gives."""


class JsonMap(dict[str, Any]):
    """A Go map whose String method gives its JSON, as Ollama's api.ToolCallFunctionArguments."""


@dataclass(frozen=True)
class Struct:
    """A Go struct: its fields in order. An unknown field is an error, where in a map it is no value.

    With `json` it is printed as JSON of that value, as Ollama's api.Tool; the members of its objects keep their order.
    """

    fields: Mapping[str, Any]
    type_name: str = "struct"
    json: Any = None


@dataclass(frozen=True)
class Slice:
    """A Go slice of a named type; `Slice()` is the nil slice: empty, `null` in JSON."""

    items: tuple[Any, ...] | None = None
    type_name: str = "[]interface {}"
    prints_json: bool = False  # it has a String method that gives its JSON, as Ollama's api.Tools


class Kind(Enum):
    """Go's reflect.Kind, as far as it matters here."""

    NIL = "nil"
    BOOL = "bool"
    INT = "int"
    UINT = "uint8"
    FLOAT = "float64"
    COMPLEX = "complex128"
    STRING = "string"
    SLICE = "[]interface {}"
    MAP = "map[string]interface {}"
    STRUCT = "struct"


_KINDS: dict[type, Kind] = {
    type(None): Kind.NIL,
    Absence: Kind.NIL,
    bool: Kind.BOOL,
    Byte: Kind.UINT,
    int: Kind.INT,
    float: Kind.FLOAT,
    complex: Kind.COMPLEX,
    str: Kind.STRING,
    list: Kind.SLICE,
    tuple: Kind.SLICE,
    Slice: Kind.SLICE,
    dict: Kind.MAP,
    Struct: Kind.STRUCT,
}


def kind(value: Any) -> Kind:
    """The kind of a value; raises TypeError for a Python type that stands for nothing in Go."""
    for cls in type(value).__mro__:
        if cls in _KINDS:
            return _KINDS[cls]
    raise TypeError(f"{type(value).__name__} is no template value")


def type_name(value: Any) -> str:
    """Go's name of the value's type, as in `%T`."""
    if isinstance(value, (Struct, Slice)):
        return value.type_name
    found = kind(value)
    return "<nil>" if found is Kind.NIL else found.value


def items(value: Any) -> Sequence[Any]:
    """The elements of a value of kind SLICE."""
    elements: Sequence[Any] = (value.items or ()) if isinstance(value, Slice) else value
    return elements


def is_nil(value: Any) -> bool:
    """Whether the value is nil of some type."""
    return kind(value) is Kind.NIL or (isinstance(value, Slice) and value.items is None)


def is_true(value: Any) -> bool:
    """Go's truth: not the zero value of its type; structs are always true."""
    if isinstance(value, (Struct, Absence)):
        return isinstance(value, Struct)
    return bool(items(value)) if isinstance(value, Slice) else bool(value)


def is_invalid_byte(char: str) -> bool:
    """Whether a character stands for a byte that is not UTF-8."""
    return "\udc80" <= char <= "\udcff"


def encode(text: str) -> bytes:
    """The bytes of a Go string."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return replace_invalid(text).encode()


def decode(data: bytes) -> str:
    """The Go string of some bytes; what is not UTF-8 is kept as surrogate escapes."""
    return data.decode("utf-8", "surrogateescape")


def replace_invalid(text: str) -> str:
    """The text with U+FFFD for every invalid byte, as Go's encoding/json has it."""
    return _SURROGATES.sub("\ufffd", text)


def join_escapes(text: str) -> str:
    """Make characters of escaped bytes that have come to stand beside each other."""
    return decode(encode(text)) if _SURROGATES.search(text) else text
