"""The functions a template may call: Go's built-in ones and Ollama's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import quote_plus

from serow.gotemplate.budget import Budget
from serow.gotemplate.compare import equal, less
from serow.gotemplate.complaint import Complaint
from serow.gotemplate.format_string import format_string
from serow.gotemplate.json_text import to_json
from serow.gotemplate.printf import format_line, format_values
from serow.gotemplate.values import Byte, Kind, Slice, Struct, decode, encode, is_true, items, kind, type_name

_HTML = str.maketrans({'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"})
_JS = {ord(char): f"\\{char}" for char in "\\'\""} | {ord(char): f"\\u{ord(char):04X}" for char in "<>&="}


@dataclass(frozen=True)
class Function:
    """A function: called with a budget and its arguments. Parameters are of type "any" or "string"."""

    call: Callable[[Budget, Sequence[Any]], Any]
    parameters: tuple[str, ...]
    variadic: str | None = None  # the type of further arguments, None when there may be none

    def parameter(self, index: int) -> str:
        """The type of an argument."""
        return self.parameters[index] if index < len(self.parameters) else self.variadic or "any"


def _index(budget: Budget, arguments: Sequence[Any]) -> Any:
    item, *indexes = arguments
    if kind(item) is Kind.NIL:
        raise Complaint("index of untyped nil")
    for index in indexes:
        item = _element(item, index)
    return item


def _element(item: Any, index: Any) -> Any:
    match kind(item):
        case Kind.NIL:
            raise Complaint("index of nil pointer")
        case Kind.STRING:
            data = encode(item)
            return Byte(data[_position(index, len(data), "string")])
        case Kind.SLICE:
            elements = items(item)
            return elements[_position(index, len(elements), "slice")]
        case Kind.MAP:
            return item.get(_key(index))
    raise Complaint(f"can't index item of type {type_name(item)}")


def _position(index: Any, length: int, sequence: str) -> int:
    """An index of an element."""
    position = _bound(index, length)
    if position == length:
        raise Complaint(f"reflect: {sequence} index out of range")
    return position


def _key(index: Any) -> str:
    if kind(index) is Kind.NIL:
        raise Complaint("value is nil; should be of type string")
    if not isinstance(index, str):
        raise Complaint(f"value has type {type_name(index)}; should be string")
    return index


def _bound(index: Any, length: int) -> int:
    """An index up to the length itself, as the ends of a slice may be."""
    found = kind(index)
    if found is Kind.NIL:
        raise Complaint("cannot index slice/array with nil")
    if found not in (Kind.INT, Kind.UINT):
        raise Complaint(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= length:
        raise Complaint(f"index out of range: {index}")
    return int(index)


def _slice(budget: Budget, arguments: Sequence[Any]) -> Any:
    item, *indexes = arguments
    found = kind(item)
    if found is Kind.NIL:
        raise Complaint("slice of untyped nil")
    if len(indexes) > 3:
        raise Complaint(f"too many slice indexes: {len(indexes)}")
    if found is Kind.STRING:
        if len(indexes) == 3:
            raise Complaint("cannot 3-index slice a string")
        data = encode(item)
        start, end = _ends(indexes, len(data))
        return decode(data[start:end])
    if found is not Kind.SLICE:
        raise Complaint(f"can't slice item of type {type_name(item)}")
    elements = items(item)
    start, end = _ends(indexes, len(elements))
    budget.step(end - start)
    part = tuple(elements[start:end])
    return replace(item, items=part) if isinstance(item, Slice) else part


def _ends(indexes: Sequence[Any], length: int) -> tuple[int, int]:
    """Start and end; a third index would limit the capacity, which nothing here can see."""
    bounds = [_bound(index, length) for index in indexes]
    ends = bounds + [0, length][len(bounds) :]
    for low, high in pairwise(ends):
        if low > high:
            raise Complaint(f"invalid slice index: {low} > {high}")
    return ends[0], ends[1]


def _len(budget: Budget, arguments: Sequence[Any]) -> int:
    (item,) = arguments
    match kind(item):
        case Kind.NIL:
            raise Complaint("len of nil pointer")
        case Kind.STRING:
            return len(item) if item.isascii() else len(encode(item))
        case Kind.SLICE:
            return len(items(item))
        case Kind.MAP:
            return len(item)
    raise Complaint(f"len of type {type_name(item)}")


def _not(budget: Budget, arguments: Sequence[Any]) -> bool:
    return not is_true(arguments[0])


def _short_circuit(budget: Budget, arguments: Sequence[Any]) -> Any:
    raise AssertionError("the evaluator does and, or and call itself")


def _eq(budget: Budget, arguments: Sequence[Any]) -> bool:
    first, *others = arguments
    if not others:
        raise Complaint("missing argument for comparison")
    return any(equal(first, other) for other in others)


def _ne(budget: Budget, arguments: Sequence[Any]) -> bool:
    return not equal(*arguments)


def _lt(budget: Budget, arguments: Sequence[Any]) -> bool:
    return less(*arguments)


def _le(budget: Budget, arguments: Sequence[Any]) -> bool:
    return less(*arguments) or equal(*arguments)


def _gt(budget: Budget, arguments: Sequence[Any]) -> bool:
    return not _le(budget, arguments)


def _ge(budget: Budget, arguments: Sequence[Any]) -> bool:
    return not less(*arguments)


def _text(budget: Budget, arguments: Sequence[Any]) -> str:
    """The arguments as one text, as html, js and urlquery take them."""
    return format_values(budget, ["<no value>" if kind(value) is Kind.NIL else value for value in arguments])


def _html(budget: Budget, arguments: Sequence[Any]) -> str:
    return _text(budget, arguments).translate(_HTML)


def _js(budget: Budget, arguments: Sequence[Any]) -> str:
    text = _text(budget, arguments)
    return text.translate({ord(char): _js_escape(char) for char in set(text)})


def _js_escape(char: str) -> str:
    code = ord(char)
    if code in _JS:
        return _JS[code]
    is_plain = 0x20 <= code <= 0x7F or 0xD800 <= code <= 0xDFFF or (code > 0x7F and char.isprintable())
    return char if is_plain else f"\\u{code:04X}"


def _urlquery(budget: Budget, arguments: Sequence[Any]) -> str:
    text = _text(budget, arguments)
    budget.text(len(text))
    return quote_plus(encode(text))


def _printf(budget: Budget, arguments: Sequence[Any]) -> str:
    return format_string(budget, arguments[0], arguments[1:])


def _json(budget: Budget, arguments: Sequence[Any]) -> str:
    return to_json(arguments[0], budget)


def _current_date(budget: Budget, arguments: Sequence[Any]) -> str:
    return date.today().isoformat()


def _yesterday_date(budget: Budget, arguments: Sequence[Any]) -> str:
    return (date.today() - timedelta(days=1)).isoformat()


_TYPESCRIPT = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def _to_typescript_type(budget: Budget, arguments: Sequence[Any]) -> str:
    """The type of a tool's property; "any" for whatever else."""
    (value,) = arguments
    if not isinstance(value, Struct) or "AnyOf" not in value.fields:
        return "any"
    if choices := items(value.fields["AnyOf"]):
        budget.step(len(choices))
        return " | ".join(_to_typescript_type(budget, [choice]) for choice in choices)
    found = value.fields["Type"]
    types = [found] if isinstance(found, str) else items(found)
    return " | ".join(_TYPESCRIPT.get(each, "any") for each in types) or "any"


FUNCTIONS: dict[str, Function] = {
    "and": Function(_short_circuit, ("any",), "any"),
    "or": Function(_short_circuit, ("any",), "any"),
    "call": Function(_short_circuit, ("any",), "any"),
    "not": Function(_not, ("any",)),
    "len": Function(_len, ("any",)),
    "index": Function(_index, ("any",), "any"),
    "slice": Function(_slice, ("any",), "any"),
    "eq": Function(_eq, ("any",), "any"),
    "ne": Function(_ne, ("any", "any")),
    "lt": Function(_lt, ("any", "any")),
    "le": Function(_le, ("any", "any")),
    "gt": Function(_gt, ("any", "any")),
    "ge": Function(_ge, ("any", "any")),
    "print": Function(format_values, (), "any"),
    "println": Function(format_line, (), "any"),
    "printf": Function(_printf, ("string",), "any"),
    "html": Function(_html, (), "any"),
    "js": Function(_js, (), "any"),
    "urlquery": Function(_urlquery, (), "any"),
    "json": Function(_json, ("any",)),
    "toTypeScriptType": Function(_to_typescript_type, ("any",)),
    "currentDate": Function(_current_date, (), "string"),
    "yesterdayDate": Function(_yesterday_date, (), "string"),
}
