"""Tools as constraints: a call is held to one of them (TOOL-07)."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from serow.constraints import grammar
from serow.constraints.constraint import Constraint

_MOST_BOUND = 200  # tools whose arguments a grammar follows
_ID = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,40}$"}
_SPACE = r"SPACE: /[ \t\r\n]{0,16}/"


class Shape(Struct, frozen=True):
    """How an object that is a call is written: the names of its members, or with `name` "" the tool's name as its only key."""

    name: str
    arguments: str
    id: str = ""
    is_id_last: bool = False


_NOTES = frozenset({"description", "title", "examples", "default", "$comment", "deprecated", "readOnly", "writeOnly"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})


def without_notes(schema: Any) -> Any:
    """The schema without what is said to readers only: tools have much of it, and it constrains nothing."""
    if isinstance(schema, list):
        return [without_notes(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _part(name, value) for name, value in schema.items() if name not in _NOTES}


def _part(name: str, value: Any) -> Any:
    if name in ("const", "enum"):
        return value
    if name in _MAPS and isinstance(value, dict):
        return {key: without_notes(each) for key, each in value.items()}
    return without_notes(value)


def called(tools: Sequence[tuple[str, dict[str, Any]]], shape: Shape) -> list[dict[str, Any]]:
    """Schemas of a call of one of the tools, by name and parameters: the whole one, and one that holds names only.

    The latter serves where a grammar can't follow the former.
    """
    looser = [_called_by_name(shape, [name for name, _ in tools])]
    if len(tools) > _MOST_BOUND:
        return looser
    return [{"anyOf": [_called(shape, number, *each) for number, each in enumerate(tools)]}, *looser]


def _called(shape: Shape, number: int, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """A call of one tool; an identifier of its own keeps the references inside its schema there."""
    own = {"$id": f"tool:{number}", "type": "object", **without_notes(parameters)}
    return _object(_members(shape, {"const": name}, own) if shape.name else {name: own})


def _called_by_name(shape: Shape, names: list[str]) -> dict[str, Any]:
    if shape.name:
        return _object(_members(shape, {"enum": names}, {"type": "object"}))
    return {"anyOf": [_object({name: {"type": "object"}}) for name in names]}


def _members(shape: Shape, name: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    members = {shape.name: name, shape.arguments: arguments}
    id = {shape.id: _ID} if shape.id else {}
    return {**members, **id} if shape.is_id_last else {**id, **members}


def _object(members: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def behind_space(constraint: Constraint) -> Constraint:
    """The same behind the white space that models write; engines without llguidance write none."""
    head, _, body = constraint.grammar.partition("start: ")
    return msgspec.structs.replace(constraint, grammar=f"{head}start: SPACE value\nvalue: {body}\n{_SPACE}")


def one_of(texts: Sequence[str]) -> Constraint:
    """One of these texts."""
    choices = " | ".join(msgspec.json.encode(text).decode() for text in texts)
    return Constraint(grammar.of_lark(f"start: {choices}"), gbnf=f"root ::= {choices}")
