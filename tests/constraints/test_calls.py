"""Calls held to their tools (TOOL-07)."""

import json
from typing import Any

import pytest

from serow.constraints import Shape, compile_format, one_of
from serow.constraints.calls import behind_space, called, without_notes
from serow.constraints.grammar import accepts

SHAPE = Shape("name", "arguments")
NUMBER = {"type": "integer"}
ADD = ("add", {"type": "object", "properties": {"a": NUMBER, "b": NUMBER}, "required": ["a", "b"]})
TREE = (
    "tree",
    {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}},
)
LEAF = ("leaf", {"properties": {"n": {"$ref": "#/$defs/node"}}, "$defs": {"node": {"type": "boolean"}}})


def grammar(tools: list[tuple[str, dict[str, Any]]], shape: Shape = SHAPE, number: int = 0) -> str:
    constraint = compile_format(called(tools, shape)[number])
    assert constraint is not None
    return behind_space(constraint).grammar


def call(name: str, arguments: Any, **more: Any) -> str:
    return json.dumps({"name": name, "arguments": arguments, **more})


@pytest.mark.req("TOOL-07")
@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (call("add", {"a": 1, "b": 2}), True),
        ("\n" + call("add", {"a": 1, "b": 2}), True),
        (call("add", {"a": 1}), False),
        (call("add", {"a": "1", "b": 2}), False),
        (call("tree", {"next": {"next": {}}}), True),
        (call("tree", {"next": True}), False),
        (call("leaf", {"n": True}), True),
        (call("leaf", {"n": {}}), False),
        (call("leaf", []), False),
        (call("nope", {}), False),
        (json.dumps({"arguments": {}}), False),
    ],
)
def test_a_call_is_one_of_the_tools_and_references_stay_within_their_schema(text: str, fits: bool) -> None:
    assert accepts(grammar([ADD, TREE, LEAF]), text) is fits


@pytest.mark.req("TOOL-07")
def test_members_stand_as_the_family_writes_them() -> None:
    before, behind = Shape("tool_name", "parameters", "id"), Shape("name", "arguments", "id", is_id_last=True)
    assert accepts(grammar([ADD], before), '{"id": "0", "tool_name": "add", "parameters": {"a": 1, "b": 2}}')
    assert accepts(grammar([ADD], behind), '{"name": "add", "arguments": {"a": 1, "b": 2}, "id": "Ab3"}')
    assert accepts(grammar([ADD], Shape("", "")), '{"add": {"a": 1, "b": 2}}')


@pytest.mark.req("TOOL-07")
def test_tools_that_are_too_many_are_held_by_name() -> None:
    many = [(f"tool_{n}", {"type": "object", "properties": {"a": NUMBER}}) for n in range(1000)]
    assert len(called(many, SHAPE)) == 1
    assert accepts(grammar(many), call("tool_999", {"any": ["thing"]}))
    assert not accepts(grammar(many), call("tool_1000", {}))
    assert accepts(grammar([ADD], number=1), call("add", {"any": 1}))


def test_what_is_said_to_readers_is_left_out_and_properties_of_such_names_are_not() -> None:
    noted = {
        "description": "long",
        "properties": {"title": {"type": "string", "title": "T", "default": "x"}, "description": {"enum": ["title"]}},
        "anyOf": [{"examples": [1], "required": ["title"]}],
        "const": {"description": 1},
    }
    assert without_notes(noted) == {
        "properties": {"title": {"type": "string"}, "description": {"enum": ["title"]}},
        "anyOf": [{"required": ["title"]}],
        "const": {"description": 1},
    }


@pytest.mark.req("TOOL-07")
def test_a_name_is_one_of_those_given_whatever_stands_in_it() -> None:
    names = ["add", "a b.c", 'q"uo\\te', "número 😀", "a/b"]
    for name in names:
        assert accepts(one_of(names).grammar, name)
    assert not accepts(one_of(names).grammar, "ad") and not accepts(one_of(names).grammar, "adds")
