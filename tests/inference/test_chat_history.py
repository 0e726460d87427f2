"""Calls, results and tools of a conversation on their way to the template."""

from typing import Any

import pytest

from serow.errors import RequestError
from tests.inference.messages import ADD, TOOLS, said
from tests.support.engine import FakeEngine
from tests.support.flow import flow


@pytest.mark.req("TOOL-06")
@pytest.mark.parametrize("arguments", [{"b": 2, "a": 12345678901234567890}, '{"b": 2, "a": 12345678901234567890}'])
async def test_calls_of_the_history_reach_the_template_in_their_order_and_unrounded(arguments: Any) -> None:
    engine = FakeEngine(["x"], template=lambda messages, _: str(messages[1]["tool_calls"][0]["function"]["arguments"]))
    async with flow(engine, *TOOLS) as asked:
        call = {"function": {"name": "add", "arguments": arguments}}
        text = await asked.shown("?", said("assistant", tool_calls=[call]), said("tool", "3"))
    assert text == '{"b": 2, "a": 12345678901234567890}'
    ((messages, _),) = engine.rendered
    assert messages[2] == {"role": "tool", "content": "3", "name": "add", "tool_call_id": messages[1]["tool_calls"][0]["id"]}


@pytest.mark.req("TOOL-06")
@pytest.mark.parametrize("arguments", ["{", "5", [1], 5])
async def test_arguments_that_are_no_object_are_refused(arguments: Any) -> None:
    async with flow(FakeEngine(["x"]), *TOOLS) as asked:
        with pytest.raises(RequestError, match=r'"messages\[1\].tool_calls\[0\].function.arguments" must be an object'):
            await asked.reply("?", said("assistant", tool_calls=[{"function": {"name": "add", "arguments": arguments}}]))


@pytest.mark.req("TOOL-06")
async def test_results_belong_to_their_calls_by_id_by_name_and_else_in_order() -> None:
    calls = [{"id": id, "function": {"name": name}} for id, name in (("1", "a"), ("2", "b"), ("3", "c"))]
    engine = FakeEngine(["x"])
    results = (said("tool", "C", tool_call_id="3"), said("tool", "B", tool_name="b"), said("tool", "A"), said("tool", "?"))
    async with flow(engine, *TOOLS) as asked:
        await asked.reply("?", said("assistant", tool_calls=calls), *results)
    ((messages, _),) = engine.rendered
    assert [(each.get("name"), each.get("tool_call_id")) for each in messages[2:]] == [
        ("c", "3"),
        ("b", "2"),
        ("a", "1"),
        (None, None),
    ]


@pytest.mark.req("TOOL-01", "TOOL-02")
async def test_tools_reach_the_template_whole_and_in_the_clients_order() -> None:
    engine = FakeEngine(["x"])
    whole = {
        "function": {
            "strict": True,
            "name": "a",
            "parameters": {"z": 1, "properties": {"n": {"minimum": 1, "type": "integer"}}},
        }
    }
    async with flow(engine, *TOOLS) as asked:
        await asked.reply("?", tools=[whole, {"type": "function", "function": {"name": "b", "parameters": {}}}])
    tools, *_ = engine.tools
    assert str(tools[0]) == str({"type": "function", **whole})
    assert tools[1]["function"]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.req("TOOL-01")
@pytest.mark.parametrize(
    ("tool", "error"),
    [
        ({}, '"tools[0].function" is required'),
        ({"function": {}}, '"tools[0].function.name" is required'),
        ({"type": "odd"}, 'tools[0].type "odd" is not function, the only type of a tool'),
        ({"function": {"name": "a", "parameters": 5}}, '"tools[0].function.parameters" must be an object, not an integer'),
        (
            {"function": {"name": "a", "parameters": {"properties": 5}}},
            "tools[0].function.parameters.properties must be an object",
        ),
        (
            {"function": {"name": "a", "parameters": {"required": "x"}}},
            "tools[0].function.parameters.required must be an array",
        ),
        (
            {"function": {"name": "a", "parameters": {"properties": {"x": {"type": 5}}}}},
            "tools[0].function.parameters.properties.x.type is no type of JSON Schema: use string, number, integer, boolean, "
            "array, object, null",
        ),
        (
            {"function": {"name": "a", "parameters": {"anyOf": [{"items": {"type": "int"}}]}}},
            "tools[0].function.parameters.anyOf[0].items.type is no type of JSON Schema: use string, number, integer, boolean, "
            "array, object, null",
        ),
    ],
)
async def test_a_tool_that_is_none_is_refused_with_where(tool: dict[str, Any], error: str) -> None:
    async with flow(FakeEngine(["x"]), *TOOLS) as asked:
        with pytest.raises(RequestError) as caught:
            await asked.reply("?", tools=[tool])
    assert str(caught.value) == error


@pytest.mark.req("TOOL-07")
async def test_tools_that_must_not_be_called_are_not_rendered() -> None:
    engine = FakeEngine(["x"])
    async with flow(engine, *TOOLS) as asked:
        await asked.reply("?", tools=[ADD], tool_choice="none")
    assert engine.tools == [[]]
