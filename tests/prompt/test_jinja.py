"""What a Jinja template is shown of calls: their arguments byte for byte where it takes text, else as an object."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from serow.inference.ask import Conversation, ToolCall
from serow.prompt import jinja
from serow.prompt.turns import Turn
from tests.support.engine import FakeEngine

WRITTEN = ['{"a":1,"b":2}', '{ "b": 3, "a": 4 }', "{a: 1", "not JSON at all", "[1]", '{"a": 12345678901234567890}', "{}"]


def shows_objects(messages: Sequence[dict[str, Any]], _: dict[str, Any]) -> str:
    """As engines do: the arguments are read as JSON, and written anew."""
    calls = [call["function"] for message in messages for call in message.get("tool_calls", ())]
    return "".join(f"<{call['name']} {json.dumps(json.loads(call['arguments']))}>" for call in calls) + "[assistant]"


def takes_apart(messages: Sequence[dict[str, Any]], _: dict[str, Any]) -> str:
    """A template that writes each argument between tags of its own."""
    calls = [call["function"] for message in messages for call in message.get("tool_calls", ())]
    parts = [f"<{key}>{value}</{key}>" for call in calls for key, value in json.loads(call["arguments"]).items()]
    return "".join(parts) + "[assistant]"


async def rendered(template: Any, *arguments: str, takes_text: bool) -> str:
    calls = tuple(ToolCall("add", each) for each in arguments)
    turns = [Turn("user", "x"), Turn("assistant", tool_calls=calls), Turn("tool", "3")]
    engine = FakeEngine([""], template=template)
    return await jinja.render(Conversation([]), turns, None, engine, takes_text=takes_text)


@pytest.mark.req("OAI-13")
@pytest.mark.parametrize("arguments", WRITTEN)
async def test_arguments_are_shown_byte_for_byte_where_the_template_takes_text(arguments: str) -> None:
    text = await rendered(shows_objects, arguments, "{ }", takes_text=True)
    assert text == f"<add {arguments}><add {{ }}>[assistant]"


@pytest.mark.req("OAI-13")
async def test_a_template_that_takes_arguments_apart_gets_them_as_an_object() -> None:
    assert await rendered(takes_apart, '{"a": 1}', takes_text=True) == "<a>1</a>[assistant]"


@pytest.mark.req("OAI-13")
async def test_what_is_no_json_does_not_end_the_session() -> None:
    assert await rendered(takes_apart, "{a: 1", takes_text=False) == "<arguments>{a: 1</arguments>[assistant]"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{%- if tool_call.arguments is string %}", True),
        ("{% if call.arguments is not mapping %}", True),
        ("{{ tool_call.arguments | tojson }}", False),
        ("", False),
    ],
)
def test_a_template_takes_text_that_asks_for_it(template: str, expected: bool) -> None:
    assert jinja.takes_text(template) is expected
