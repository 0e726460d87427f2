"""JSON of template values as Go's encoding/json writes it, the function `json` of Ollama's templates."""

import math
import re
from collections.abc import Iterator
from typing import Any

from serow.errors import TemplateError
from serow.gotemplate.budget import MAX_DEPTH, Budget
from serow.gotemplate.floats import SHORTEST, format_float
from serow.gotemplate.values import Kind, Slice, items, kind, replace_invalid

_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x20), *map(ord, "<>&\u2028\u2029"))} | {
    ord(char): escape
    for char, escape in {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}.items()
}
_LONG_EXPONENT = re.compile("e-0([1-9])$")


class _Unsupported(Exception):
    """A value that JSON can't hold."""


def to_json(value: Any, budget: Budget) -> str:
    """The JSON text; empty for what JSON can't hold (NaN, infinities, complex numbers), as Ollama's function gives it."""
    pieces: list[str] = []
    try:
        for piece in _pieces(value, budget, 0):
            budget.step()
            pieces.append(piece)
    except _Unsupported:
        return ""
    return "".join(pieces)


def _pieces(value: Any, budget: Budget, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise TemplateError("template: data nested too deep to print")
    match kind(value):
        case Kind.SLICE:
            yield from _array(value, budget, depth)
        case Kind.MAP:
            budget.step(len(value))
            yield from _object([(key, value[key]) for key in sorted(value)], budget, depth)
        case Kind.STRUCT if value.json is not None:
            yield from _in_order(value.json, budget, depth)
        case Kind.STRUCT:
            yield from _object(list(value.fields.items()), budget, depth)
        case _:
            yield _scalar(value, budget)


def _in_order(value: Any, budget: Budget, depth: int) -> Iterator[str]:
    """JSON as it came: members in their order."""
    if depth > MAX_DEPTH:
        raise TemplateError("template: data nested too deep to print")
    if isinstance(value, dict):
        yield "{"
        for index, (key, item) in enumerate(value.items()):
            yield f"{',' if index else ''}{_scalar(key, budget)}:"
            yield from _in_order(item, budget, depth + 1)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for index, item in enumerate(value):
            yield "," if index else ""
            yield from _in_order(item, budget, depth + 1)
        yield "]"
    else:
        yield _scalar(value, budget)


def _array(value: Any, budget: Budget, depth: int) -> Iterator[str]:
    if isinstance(value, Slice) and value.items is None:
        yield "null"
        return
    yield "["
    for index, item in enumerate(items(value)):
        yield "," if index else ""
        yield from _pieces(item, budget, depth + 1)
    yield "]"


def _object(members: list[tuple[str, Any]], budget: Budget, depth: int) -> Iterator[str]:
    yield "{"
    for index, (key, item) in enumerate(members):
        yield f"{',' if index else ''}{_scalar(key, budget)}:"
        yield from _pieces(item, budget, depth + 1)
    yield "}"


def _scalar(value: Any, budget: Budget) -> str:
    match kind(value):
        case Kind.NIL:
            return "null"
        case Kind.BOOL:
            return "true" if value else "false"
        case Kind.STRING:
            budget.text(len(value))
            return f'"{replace_invalid(value).translate(_ESCAPES)}"'
        case Kind.INT | Kind.UINT:
            return str(int(value))
        case Kind.FLOAT if math.isfinite(value):
            return _number(value)
    raise _Unsupported


def _number(value: float) -> str:
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        return format_float(value, "f", SHORTEST)
    return _LONG_EXPONENT.sub(r"e-\1", format_float(value, "e", SHORTEST))
