"""A relaxed schema for engines without llguidance: llama.cpp's own converter of JSON Schema to GBNF.

It refuses patterns that aren't anchored, knows few escapes and no large repetition. What it can't take is left out here:
the finished text is checked against the whole schema all the same. Source: llama.cpp, common/json-schema-to-grammar.cpp.
"""

import re
from typing import Any

from serow.constraints.dialect import Document
from serow.constraints.keywords import Schema, remade, subschemas
from serow.constraints.patterns import is_above

_MOST_REPEATED = 1000  # the product of nested ones is limited too

_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
_TOKEN = re.compile(r"\\.|\[\^?|.", re.DOTALL)
_NUMBER = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_SETS = {"d": "0-9", "w": "A-Za-z0-9_", "s": " "}  # a JSON string holds other white space only escaped
_SPECIAL = frozenset(".^$*+?()[]{}|\\")


def portable(document: Document) -> dict[str, Any]:
    """The document as one schema without what llama.cpp's converter would refuse."""
    return Document(_portable(document.root), {name: _portable(schema) for name, schema in document.defs.items()}).whole()


def _portable(node: Schema) -> Schema:
    if isinstance(node, bool):
        return node
    out = {key: value for key, value in node.items() if key not in _COUNTS or value <= _MOST_REPEATED}
    if "pattern" in out:
        out["pattern"] = portable_pattern(out["pattern"])
    out = {key: value for key, value in out.items() if value is not None or key == "const"}
    return remade(_without_false(out), lambda child, *_: _portable(child))


def _without_false(node: dict[str, Any]) -> dict[str, Any]:
    """A schema that nothing fits is known to the converter as `additionalProperties` only."""
    hollow = {(key, name) for key, name, child in subschemas(node) if child is False and key != "additionalProperties"}
    out = dict(node)
    for key in {key for key, _ in hollow}:
        if isinstance(node[key], dict):
            out[key] = {name: child for name, child in node[key].items() if child is not False}
        elif isinstance(node[key], list) and key == "anyOf":
            out[key] = [child for child in node[key] if child is not False]
        else:
            del out[key]
    return out


def portable_pattern(pattern: str) -> str | None:
    """The pattern in the converter's language; None where that can't be."""
    inner = pattern.removeprefix("^").removesuffix("$")
    is_large = any(is_above(number, _MOST_REPEATED) for pair in _NUMBER.findall(inner) for number in pair)
    if len(inner) + 2 != len(pattern) or is_large:
        return None
    inner = inner.replace("(?:", "(")
    parts, members = [], None  # of the class that is open
    for token in _TOKEN.findall(inner):
        if members is not None:
            if token == "]":
                parts.append(f"{''.join(members)}]")
                members = None
            elif (member := _member(token)) is None:
                return None
            else:
                members.append(member)
        elif token in ("[", "[^"):
            members = [token]
        elif (part := _part(token)) is None:
            return None
        else:
            parts.append(part)
    return None if members is not None or "(?" in inner else f"^{''.join(parts)}$"


def _member(token: str) -> str | None:
    """One character of a class: GBNF knows few escapes there."""
    char = token.removeprefix("\\") if len(token) == 2 else token
    if len(token) == 2 and char.isalnum():
        return _SETS.get(char)
    is_escaped = char == "[" or (len(token) == 2 and char in '\\]"^-')
    return f"\\x{ord(char):02x}" if is_escaped else char


def _part(token: str) -> str | None:
    if len(token) == 2:
        char = token[1]
        if char.isalnum():
            return f"[{_SETS[char]}]" if char in _SETS else None
        return token if char in _SPECIAL else char
    return None if token in "^$\\" else token
