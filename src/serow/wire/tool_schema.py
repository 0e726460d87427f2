"""Whether the parameters of a tool are a JSON Schema, as far as its parts can be named in words (TOOL-01)."""

from typing import Any

from serow.errors import RequestError

_TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")
_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")  # objects of schemas
_SCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")


def check_schema(schema: Any, at: str) -> None:
    """Raise RequestError that says where something is no schema. Linear in its size, and bounded as bodies are."""
    left = [(schema, at)]
    while left:
        found, path = left.pop()
        if isinstance(found, bool):
            continue
        if not isinstance(found, dict):
            raise RequestError(f"{path} is no JSON Schema: it must be an object", param=path, code="invalid_value")
        _check_type(found.get("type"), f"{path}.type")
        for name in _OF_SCHEMAS:
            inner = found.get(name)
            if inner is not None and not isinstance(inner, dict):
                raise RequestError(f"{path}.{name} must be an object", param=f"{path}.{name}", code="invalid_value")
            left += [(each, f"{path}.{name}.{key}") for key, each in (inner or {}).items()]
        for name in (*_LISTS, "enum", "required"):
            if found.get(name) is not None and not isinstance(found[name], list):
                raise RequestError(f"{path}.{name} must be an array", param=f"{path}.{name}", code="invalid_value")
        left += [(found[name], f"{path}.{name}") for name in _SCHEMAS if isinstance(found.get(name), dict)]
        for name in _LISTS:
            if isinstance(inner := found.get(name), list):
                left += [(each, f"{path}.{name}[{number}]") for number, each in enumerate(inner)]


def _check_type(value: Any, at: str) -> None:
    """Absent, null or "" says nothing; else it is one or several of the names."""
    if value is None or value == "":
        return
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name in _TYPES for name in names):
        raise RequestError(f"{at} is no type of JSON Schema: use {', '.join(_TYPES)}", param=at, code="invalid_value")
