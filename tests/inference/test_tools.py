"""Tools in /api/chat with an engine that says what the test wrote (TOOL-01 to TOOL-08)."""

import json
from typing import Any

import pytest

from serow.errors import PromptTooLong, RequestError
from serow.store.model import Capability
from tests.output.families import speaking
from tests.support.engine import FakeEngine
from tests.support.flow import flow

TOOLS: tuple[Capability, ...] = ("completion", "tools")
GO = (
    "{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ range .ToolCalls }}<tool_call>"
    '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}</tool_call>{{ end }}</>{{ end }}'
    "{{ if .Tools }}T{{ end }}<assistant>"
)
PROPERTIES = {"a": {"type": "integer"}, "b": {"type": "integer"}}
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": PROPERTIES}}}
NOW = {"type": "function", "function": {"name": "now"}}
OPENING = "<tool_call>"
BODY = '\n{"name": "add", "arguments": {"b": 85, "a": 12345678901234567890}}'
CLOSING = "\n</tool_call>"


def calling() -> FakeEngine:
    return speaking(["I add.\n", OPENING], [BODY], [CLOSING])


@pytest.mark.req("TOOL-03", "TOOL-07")
async def test_a_call_is_an_object_with_keys_and_numbers_as_written() -> None:
    asked_of = calling()
    async with flow(asked_of, *TOOLS) as asked:
        record = await asked.reply("Go", tools=[ADD, NOW])
    message = record["message"]
    (call,) = message["tool_calls"]
    assert message["content"] == "I add." and record["done_reason"] == "stop" and "warnings" not in record
    assert call["id"].startswith("call_") and call["function"]["index"] == 0 and call["function"]["name"] == "add"
    assert list(call["function"]["arguments"].items()) == [("b", 85), ("a", 12345678901234567890)]
    free, bound, behind = asked_of.requests
    assert OPENING in free.options.stop and not free.grammar and not behind.grammar
    assert '"const": "add"' in bound.grammar and '"const": "now"' in bound.grammar
    assert {OPENING, "</tool_call>"} <= set(free.visible)


@pytest.mark.req("TOOL-04")
async def test_a_call_has_a_record_of_its_own_before_the_last() -> None:
    async with flow(calling(), *TOOLS) as asked:
        *pieces, last = await asked.chat("Go", tools=[ADD])
    messages = [piece["message"] for piece in pieces]
    assert "".join(message["content"] for message in messages) == "I add."
    assert [len(message.get("tool_calls", ())) for message in messages] == [0, 1]
    assert "tool_calls" not in last["message"] and last["done"]


@pytest.mark.req("TOOL-05")
async def test_a_cut_call_is_content_and_a_warning() -> None:
    async with flow(speaking([OPENING], [BODY[:20], BODY[20:]]), *TOOLS) as asked:
        record = await asked.reply("Go", tools=[ADD], options={"num_predict": 2})
    assert record["message"]["content"] == OPENING + BODY[:20] and "tool_calls" not in record["message"]
    assert record["done_reason"] == "length" and record["warnings"] == [
        "a tool call was cut off; its text is part of the content"
    ]


@pytest.mark.req("TOOL-05")
async def test_without_tools_nothing_is_a_call() -> None:
    async with flow(speaking([OPENING + BODY + CLOSING]), *TOOLS) as asked:
        record = await asked.reply("Go")
        chosen = await asked.reply("Go", tools=[ADD], tool_choice="none")
    assert record["message"] == chosen["message"] == {"role": "assistant", "content": OPENING + BODY + CLOSING}


@pytest.mark.req("TOOL-01")
async def test_a_model_without_tools_refuses_them() -> None:
    async with flow(speaking(["x"])) as asked:
        with pytest.raises(RequestError, match='"m" does not support tools'):
            await asked.reply("Go", tools=[ADD])
        assert (await asked.reply("Go", tools=[]))["message"]["content"] == "x"


@pytest.mark.req("TOOL-01")
@pytest.mark.parametrize(
    ("tool", "error"),
    [
        ({}, "tools[0].function"),
        ({"type": "function"}, "tools[0].function"),
        ({"type": "web_search"}, "tools[0].type"),
        ({"function": {}}, "tools[0].function.name"),
        ({"function": {"name": ""}}, "tools[0].function.name"),
        ({"function": {"name": "x", "parameters": "x"}}, "tools[0].function.parameters"),
        ({"function": {"name": "x", "parameters": {"properties": {"a": 5}}}}, "parameters.properties.a"),
        ({"function": {"name": "x", "parameters": {"properties": {"a": {"type": "no"}}}}}, "properties.a.type"),
    ],
)
async def test_a_tool_that_is_none_is_refused_and_named(tool: dict[str, Any], error: str) -> None:
    async with flow(speaking(["x"]), *TOOLS) as asked:
        with pytest.raises(RequestError) as caught:
            await asked.reply("Go", tools=[tool])
    assert error in str(caught.value)


@pytest.mark.req("TOOL-01")
async def test_recursive_schemas_and_odd_names_do_no_harm() -> None:
    tree = {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}}
    odd = {"function": {"name": "add two/n.úmeros 😀", "parameters": tree}}
    loop = {"function": {"name": "loop", "parameters": {"$ref": "#"}}}
    body = '{"name": "add two/n.úmeros 😀", "arguments": {"next": {}}}'
    async with flow(speaking([OPENING], [body], [CLOSING]), *TOOLS) as asked:
        record = await asked.reply("Go", tools=[odd, loop])
    assert record["message"]["tool_calls"][0]["function"]["name"] == "add two/n.úmeros 😀"


@pytest.mark.req("TOOL-07")
async def test_a_choice_holds_the_answer_to_its_tools() -> None:
    named = speaking([BODY], [CLOSING])
    async with flow(named, *TOOLS) as asked:
        choice = {"type": "function", "function": {"name": "add"}}
        record = await asked.reply("Go", tools=[ADD, NOW], tool_choice=choice, parallel_tool_calls=False)
    assert len(record["message"]["tool_calls"]) == 1 and len(named.requests) == 1
    assert '"const": "now"' not in named.requests[0].grammar and named.prompts[0].endswith(OPENING + "\n")
    async with flow(named, *TOOLS) as asked:
        for wrong in ("sometimes", {"type": "function", "function": {"name": "nope"}}, 5):
            with pytest.raises(RequestError, match="tool_choice"):
                await asked.reply("Go", tools=[ADD], tool_choice=wrong)


@pytest.mark.req("TOOL-08")
async def test_a_format_holds_the_answer_and_not_the_call() -> None:
    format = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    async with flow(speaking([OPENING], [BODY], [CLOSING]), *TOOLS) as asked:
        called = await asked.reply("Go", tools=[ADD], format=format)
    assert len(called["message"]["tool_calls"]) == 1 and "format_valid" not in called
    answering = speaking(["Well"], ['{"sum": 3}'])
    async with flow(answering, *TOOLS) as asked:
        answered = await asked.reply("Go", tools=[ADD], format=format)
    assert answered["message"]["content"] == '{"sum": 3}' and answering.requests[1].grammar


@pytest.mark.req("TOOL-08", "CHAT-13")
async def test_log_probabilities_of_a_call_are_all_told() -> None:
    async with flow(calling(), *TOOLS) as asked:
        records = await asked.chat("Go", tools=[ADD], logprobs=True)
    tokens = [entry["token"] for record in records for entry in record.get("logprobs", ())]
    assert tokens == ["I add.\n", OPENING, BODY, CLOSING]
    async with flow(speaking([OPENING], [BODY[:20], BODY[20:]]), *TOOLS) as asked:
        records = await asked.chat("Go", tools=[ADD], logprobs=True, options={"num_predict": 2})
    assert [entry["token"] for record in records for entry in record.get("logprobs", ())] == [OPENING, BODY[:20]]


@pytest.mark.req("TOOL-01", "GEN-01")
async def test_members_of_a_tool_are_known_in_any_case() -> None:
    tool = {"Type": "function", "FUNCTION": {"Name": "add", "Description": "Adds", "Parameters": {"type": "object"}}}
    async with flow(FakeEngine(["x"]), *TOOLS, template="{{ json .Tools }}", chat_template="") as asked:
        shown = json.loads(await asked.shown("Go", tools=[tool]))
    function = {"name": "add", "description": "Adds", "parameters": {"type": "object"}}
    assert shown == [{"type": "function", "function": function}]


@pytest.mark.req("TOOL-08")
async def test_bound_text_that_calls_is_not_judged_by_what_is_left_of_it() -> None:
    call = '{"name": "add", "arguments": {"a": 1}}'
    bare = "{{ range .Messages }}{{ .Content }}{{ end }}{{ .Tools }}"
    said = FakeEngine([f'[{call}, {{"name": "nope", "arguments": {{}}}}]'])
    async with flow(said, *TOOLS, template=bare, chat_template="") as asked:
        record = await asked.reply("Go", tools=[ADD], format={"type": "array", "items": {"type": "object"}})
    assert len(record["message"]["tool_calls"]) == 1 and "format_valid" not in record
    assert record["warnings"] == ['the model called "nope", which is no given tool; its text is part of the content']


@pytest.mark.req("TOOL-06")
@pytest.mark.parametrize("call", [{"index": "0"}, {"arguments": '{"a": NaN}'}, {"arguments": '{"a": 1e400}'}])
async def test_a_call_of_the_history_that_is_none_is_refused(call: dict[str, Any]) -> None:
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "add", **call}}]}
    async with flow(speaking(["x"]), *TOOLS) as asked:
        with pytest.raises(RequestError, match=next(iter(call))):
            await asked.reply("Go", called, {"role": "tool", "content": "1"})


@pytest.mark.req("TOOL-06")
async def test_a_go_template_shows_how_its_model_calls() -> None:
    said = FakeEngine([OPENING], [BODY], [CLOSING])
    async with flow(said, *TOOLS, template=GO, chat_template="") as asked:
        record = await asked.reply("Go", tools=[ADD])
    assert len(record["message"]["tool_calls"]) == 1 and said.prompts[0] == "<user>Go</>T<assistant>"


@pytest.mark.req("TOOL-03", "TOOL-07")
async def test_a_store_model_that_passes_its_text_through_calls_nothing() -> None:
    async with flow(speaking([OPENING + BODY]), *TOOLS, parser="passthrough") as asked:
        record = await asked.reply("Go", tools=[ADD])
        must = await asked.reply("Go", tools=[ADD], tool_choice="required")
    assert record["message"] == must["message"] == {"role": "assistant", "content": OPENING + BODY}
    assert "warnings" not in record
    assert must["warnings"] == ['tool_choice asks for a call, but the parser "passthrough" of this model reads none']


@pytest.mark.req("CHAT-07")
async def test_a_renderer_of_the_peer_without_a_template_is_refused_in_words() -> None:
    async with flow(speaking(["x"]), *TOOLS, renderer="qwen3-coder", chat_template="") as asked:
        with pytest.raises(RequestError, match='renderer "qwen3-coder"'):
            await asked.reply("Go")
    async with flow(speaking(["x"]), *TOOLS, renderer="qwen3-coder") as asked:
        assert (await asked.reply("Go"))["message"]["content"] == "x"


@pytest.mark.req("TOOL-07")
async def test_a_template_is_probed_once() -> None:
    said = speaking(["x"])
    async with flow(said, *TOOLS) as asked:
        await asked.reply("Go", tools=[ADD])
        num_probes = len(said.rendered)
        await asked.reply("Go", tools=[ADD])
    assert len(said.rendered) == num_probes + 1


@pytest.mark.req("TOOL-01", "CHAT-12")
async def test_tools_that_can_not_fit_are_refused_before_they_are_rendered() -> None:
    said = speaking(["x"])
    large = {"function": {"name": "add", "parameters": {"properties": {"a": {"description": "x" * 1_000_000}}}}}
    async with flow(said, *TOOLS) as asked:
        with pytest.raises(PromptTooLong, match=r"the list of tools has at least 4167\d tokens, the context holds 4096"):
            await asked.reply("Go", tools=[large])
    assert not said.rendered


@pytest.mark.req("TOOL-07")
async def test_arguments_that_nothing_held_are_checked() -> None:
    call = "<tool_call>\n<function=add>\n<parameter=a>\nten\n</parameter>\n</function>\n</tool_call>"
    async with flow(speaking([call], family="qwen3_coder"), *TOOLS) as asked:
        record = await asked.reply("Go", tools=[ADD])
    assert record["message"]["tool_calls"][0]["function"]["arguments"] == {"a": "ten"}
    assert record["warnings"] == ['the arguments of the call of "add" do not fit its parameters']
