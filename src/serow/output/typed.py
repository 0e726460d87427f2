"""A value that a model wrote as bare text, as JSON by the schema of its property."""

import json
import re
from typing import Any

import msgspec

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DEEPEST = 8  # references and alternatives


def escaped(text: str) -> str:
    """The text as it stands inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def types_of(parameters: dict[str, Any], key: str) -> frozenset[str]:
    """The JSON types that the property may have, empty when the schema does not say."""
    properties = parameters.get("properties")
    schema = properties.get(key) if isinstance(properties, dict) else None
    return frozenset(_types(schema, parameters, 0))


def _types(schema: Any, root: dict[str, Any], depth: int) -> set[str]:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return set()
    found: set[str] = set()
    given = schema.get("type")
    if given is not None:
        return {each for each in (given if isinstance(given, list) else [given]) if isinstance(each, str)}
    for values in (schema.get("enum"), [schema["const"]] if "const" in schema else None):
        found |= {_type_of(value) for value in values} if isinstance(values, list) else set()
    for word in ("anyOf", "oneOf", "allOf"):
        alternatives = schema.get(word)
        for each in alternatives if isinstance(alternatives, list) else ():
            found |= _types(each, root, depth + 1)
    reference = schema.get("$ref")
    if isinstance(reference, str):
        found |= _types(_target(root, reference), root, depth + 1)
    return found


def _target(root: dict[str, Any], reference: str) -> Any:
    target: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
    return target if reference.startswith("#/") else None


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", list: "array", dict: "object", type(None): "null"}
    return names[type(value)]


def json_of(text: str, types: frozenset[str]) -> str:
    """The narrowest type that the text fits; a string where no other does, or none is named. Numbers stay as written."""
    bare = text.strip()
    if ("null" in types or (types and "string" not in types)) and bare.lower() in ("null", "none"):
        return "null"
    if "boolean" in types and bare.lower() in ("true", "false"):
        return bare.lower()
    if types & {"integer", "number"} and _NUMBER.fullmatch(bare):
        return bare
    if types & {"array", "object"} and bare[:1] in ("[", "{") and _is_json(bare, types):
        return bare
    return f'"{escaped(text)}"'


def _is_json(text: str, types: frozenset[str]) -> bool:
    try:
        value = msgspec.json.decode(text, type=dict[str, msgspec.Raw] | list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False
    return ("object" if isinstance(value, dict) else "array") in types
