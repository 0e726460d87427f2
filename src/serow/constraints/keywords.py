"""The keywords of JSON Schema 2020-12 that say what a value must be: what their own value may be, and where schemas sit in it.

Source: JSON Schema 2020-12, Validation and Core. Every other keyword is an annotation and changes nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Schema: TypeAlias = dict[str, Any] | bool
Shape = Literal["value", "schema", "schemas", "map"]

# What a grammar may ask for: counts become as many symbols. Above these a minimum is refused, a maximum checked afterwards.
MOST_ITEMS = 10_000
MOST_CHARACTERS = 1_000_000
LIMITS = {
    **dict.fromkeys(("minItems", "maxItems", "minContains", "minProperties", "maxProperties"), MOST_ITEMS),
    **dict.fromkeys(("minLength", "maxLength"), MOST_CHARACTERS),
}

# a pattern that the grammar compiler reads and the validator does not, as an annotation for the latter
UNCHECKED_PATTERN = "x-pattern"

TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})


@dataclass(frozen=True)
class Keyword:
    """How a keyword's value is made: a plain value, a schema, a list of schemas, or schemas by name."""

    shape: Shape
    accepts: Callable[[Any], bool]
    phrase: str  # completes "must be …"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_types(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(isinstance(name, str) and name in TYPES for name in names)


def _is_shallow(value: Any, levels: int = 32) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in inner)


_COUNT = Keyword("value", _is_count, "a whole number of zero or more")
_NUMBER = Keyword("value", _is_number, "a number")
_TEXT = Keyword("value", _is_text, "a string")
_SCHEMA = Keyword("schema", lambda value: isinstance(value, dict | bool), "a schema: an object or a boolean")
_SCHEMAS = Keyword("schemas", lambda value: isinstance(value, list) and bool(value), "a list of schemas")
_MAP = Keyword("map", lambda value: isinstance(value, dict), "an object of schemas")

KEYWORDS: dict[str, Keyword] = {
    "type": Keyword("value", _is_types, f"one or more of {', '.join(sorted(TYPES))}"),
    "enum": Keyword("value", lambda value: isinstance(value, list) and _is_shallow(value), "a list, and not nested deeply"),
    "const": Keyword("value", _is_shallow, "nested less deeply"),
    "$ref": _TEXT,
    "minLength": _COUNT,
    "maxLength": _COUNT,
    "pattern": _TEXT,
    UNCHECKED_PATTERN: _TEXT,
    "format": _TEXT,
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "exclusiveMinimum": _NUMBER,
    "exclusiveMaximum": _NUMBER,
    "multipleOf": Keyword("value", lambda value: _is_number(value) and value > 0, "a number above zero"),
    "items": _SCHEMA,
    "prefixItems": _SCHEMAS,
    "minItems": _COUNT,
    "maxItems": _COUNT,
    "uniqueItems": Keyword("value", lambda value: isinstance(value, bool), "a boolean"),
    "contains": _SCHEMA,
    "minContains": _COUNT,
    "maxContains": _COUNT,
    "unevaluatedItems": _SCHEMA,
    "properties": _MAP,
    "patternProperties": _MAP,
    "additionalProperties": _SCHEMA,
    "required": Keyword("value", _is_texts, "a list of strings"),
    "minProperties": _COUNT,
    "maxProperties": _COUNT,
    "propertyNames": _SCHEMA,
    "dependentRequired": Keyword(
        "value", lambda value: isinstance(value, dict) and all(map(_is_texts, value.values())), "an object of lists of strings"
    ),
    "dependentSchemas": _MAP,
    "unevaluatedProperties": _SCHEMA,
    "allOf": _SCHEMAS,
    "anyOf": _SCHEMAS,
    "oneOf": _SCHEMAS,
    "not": _SCHEMA,
    "if": _SCHEMA,
    "then": _SCHEMA,
    "else": _SCHEMA,
}

# schemas under these apply to the same value as the schema they stand in
IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"})


def step(pointer: str, *keys: str | int) -> str:
    """A JSON pointer further down (RFC 6901)."""
    return "".join([pointer, *(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in keys)])


def subschemas(node: dict[str, Any]) -> Iterator[tuple[str, str | int | None, Any]]:
    """Each schema right below: the keyword, the name or index under it, the schema."""
    for key, value in node.items():
        keyword = KEYWORDS.get(key)
        match keyword and keyword.shape:
            case "schema":
                yield key, None, value
            case "schemas":
                yield from ((key, index, item) for index, item in enumerate(value))
            case "map":
                yield from ((key, name, item) for name, item in value.items())
            case _:
                pass


def rebuild(node: dict[str, Any], change: Callable[[Any, str], Any], pointer: str) -> dict[str, Any]:
    """The node with every schema right below replaced by what `change(schema, pointer)` makes of it."""
    return remade(node, lambda child, *keys: change(child, step(pointer, *keys)))


def remade(node: dict[str, Any], change: Callable[..., Any]) -> dict[str, Any]:
    """The node with every schema right below replaced by what `change(schema, keyword)` makes of it.

    Under a keyword that holds several it is `change(schema, keyword, name or index)`.
    """
    out: dict[str, Any] = {}
    for key, value in node.items():
        keyword = KEYWORDS.get(key)
        match keyword and keyword.shape:
            case "schema":
                out[key] = change(value, key)
            case "schemas":
                out[key] = [change(item, key, index) for index, item in enumerate(value)]
            case "map":
                out[key] = {name: change(item, key, name) for name, item in value.items()}
            case _:
                out[key] = value
    return out
