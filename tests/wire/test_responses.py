"""OpenAI's responses on the wire: items, tools with namespaces, events without gaps."""

import base64
import json
from typing import Any

import pytest

from serow.engines.base import Logprob
from serow.errors import EngineDied, NotFound, RequestError
from serow.inference.ask import Conversation, Image, Message, Text, ToolCall, ToolChoice
from serow.inference.events import Delta, Event, Prompted
from serow.wire.responses import Memory, ResponsesRequest, decode, whole
from serow.wire.responses_stream import ResponseStream
from tests.wire.streams import CUT, DONE, TEXT, THOUGHT, call, data_of, folded, sent

ADD = {"type": "function", "name": "add", "description": "Adds", "parameters": {"type": "object", "properties": {}}}
PATCH = {"type": "custom", "name": "apply_patch", "description": "Patches"}
MATH = {"type": "namespace", "name": "math", "tools": [ADD]}
EARLIER = [{"role": "user", "content": "a"}, {"type": "message", "role": "assistant", "content": "b"}]
PICTURE = "data:image/png;base64,iVBO"


def remembered(ident: str) -> Any:
    return EARLIER if ident == "resp_1" else None


def item(ident: str) -> Any:
    return EARLIER[1] if ident == "msg_1" else None


def decoded(**fields: Any) -> ResponsesRequest:
    return decode(json.dumps({"model": "m", "input": "Hi", **fields}).encode(), Memory(remembered, item))


def conversation(**fields: Any) -> Conversation:
    prompt = decoded(**fields).ask.prompt
    assert isinstance(prompt, Conversation)
    return prompt


def messages(*items: dict[str, Any], **fields: Any) -> list[Message]:
    return list(conversation(input=list(items), **fields).messages)


def fault(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as raised:
        decoded(**fields)
    return raised.value


@pytest.mark.req("RESP-01")
@pytest.mark.parametrize(
    "given",
    [
        "Hi",
        [{"role": "user", "content": "Hi"}],
        [{"type": "message", "role": "USER", "content": [{"type": "input_text", "text": "Hi"}]}],
    ],
)
def test_a_string_or_an_item_with_a_role_is_a_message(given: Any) -> None:
    assert conversation(input=given).messages == [Message("user", (Text("Hi"),))]


@pytest.mark.req("RESP-01", "RESP-07")
@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": ""}, "input", "missing_required_parameter"),
        ({"input": []}, "input", "missing_required_parameter"),
        ({"input": 5}, "input", "invalid_type"),
        ({"input": [5]}, "input[0]", "invalid_type"),
        ({"input": [{"content": "x"}]}, "input[0].type", "missing_required_parameter"),
        ({"input": [{"role": "narrator", "content": "x"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"role": "user", "content": [{"type": "hologram"}]}]}, "input[0].content[0].type", "invalid_value"),
        ({"input": [{"type": "message", "content": "x"}]}, "input[0].role", "missing_required_parameter"),
        ({"input": [{"type": "hologram"}]}, "input", "invalid_value"),
        ({"input": [{"type": "web_search_call"}], "instructions": "Be brief."}, "input", "invalid_value"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input", "invalid_value"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input[0].content[0].text",
            "missing_required_parameter",
        ),
        ({"model": ""}, "model", "missing_required_parameter"),
        ({"previous_response_id": "resp_nope"}, "previous_response_id", "previous_response_not_found"),
        ({"conversation": "c"}, "conversation", "invalid_value"),
        ({"background": True}, "background", "invalid_value"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ],
)
def test_a_fault_names_its_field(fields: dict[str, Any], param: str, code: str) -> None:
    error = fault(**fields)
    assert (error.param, error.code) == (param, code)


@pytest.mark.req("RESP-01")
def test_an_answer_comes_back_whole_and_is_one_turn_with_its_calls() -> None:
    found = messages(
        {"role": "user", "content": "a"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": None},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "phase": "x",
            "content": [{"type": "output_text", "text": "b"}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "add", "arguments": "{ }", "status": "completed"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "3"}]},
        {"type": "web_search_call", "id": "ws_1"},
        {"role": "user", "content": "c"},
    )
    assert found == [
        Message("user", (Text("a"),)),
        Message("assistant", (Text("b"),), "Hm.", (ToolCall("add", "{ }", "c1"),)),
        Message("tool", (Text("3"),), tool_name="add", tool_call_id="c1"),
        Message("user", (Text("c"),)),
    ]


@pytest.mark.req("RESP-01")
def test_calls_of_other_tools_are_calls_and_results_and_what_is_unknown_is_named() -> None:
    request = decoded(
        input=[
            {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "ok"},
            {"type": "local_shell_call", "call_id": "c2", "action": {"command": ["ls"]}},
            {"type": "local_shell_call_output", "id": "c2", "output": "a.txt"},
            {"type": "function_call", "call_id": "c3", "namespace": "math", "name": "add", "arguments": "{}"},
            {"type": "hologram"},
            {"role": "user", "content": "Hi"},
        ]
    )
    assert isinstance(request.ask.prompt, Conversation)
    calls = [each.tool_calls for each in request.ask.prompt.messages if each.tool_calls]
    assert calls == [
        (ToolCall("apply_patch", '{"input":"x"}', "c1"),),
        (ToolCall("local_shell", '{"command": ["ls"]}', "c2"),),
        (ToolCall("math.add", "{}", "c3"),),
    ]
    assert [each.text for each in request.ask.prompt.messages if each.role == "tool"] == ["ok", "a.txt"]
    assert request.ask.warnings == ('input[5].type "hologram" is not known: the item was left out',)


@pytest.mark.req("RESP-01")
@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({"encrypted_content": "E", "content": [{"type": "reasoning_text", "text": "C"}]}, "E"),
        ({"content": [{"type": "reasoning_text", "text": "C"}], "summary": [{"type": "summary_text", "text": "S"}]}, "C"),
        ({"summary": [{"type": "summary_text", "text": "S"}]}, "S"),
        ({"summary": [], "content": None}, ""),
    ],
)
def test_a_thought_is_read_from_where_it_is(fields: dict[str, Any], thinking: str) -> None:
    (first, *_) = messages(
        {"type": "reasoning", **fields}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}
    )
    assert first.thinking == thinking


@pytest.mark.req("RESP-01", "RESP-07")
def test_references_and_earlier_answers_are_looked_up() -> None:
    assert [each.text for each in messages({"type": "item_reference", "id": "msg_1"})] == ["b"]
    with pytest.raises(NotFound, match="Item with id 'msg_2' not found"):
        decoded(input=[{"type": "item_reference", "id": "msg_2"}])
    request = decoded(previous_response_id="resp_1", instructions="Be brief.")
    assert isinstance(request.ask.prompt, Conversation)
    assert [(each.role, each.text) for each in request.ask.prompt.messages] == [
        ("system", "Be brief."),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "Hi"),
    ]
    assert [each["role"] for each in request.items] == ["user", "assistant", "user"]


@pytest.mark.req("RESP-02")
def test_instructions_and_developers_are_system_and_parts_stay_where_they_are() -> None:
    parts = [
        {"type": "input_text", "text": "a"},
        {"type": "refusal", "refusal": "No."},
        {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
        {"type": "input_file", "filename": "a.txt", "file_data": f"data:text/plain;base64,{base64.b64encode(b'hi').decode()}"},
    ]
    first, second, third = messages({"role": "developer", "content": "d"}, {"role": "user", "content": parts}, instructions="i")
    assert (first, second) == (Message("system", (Text("i"),)), Message("system", (Text("d"),)))
    assert third.content == (Text("a\nNo."), Image(PICTURE), Text("a.txt\nhi"))
    for data in ("data:application/pdf;base64,eA==", "data:text/plain;base64,*", ""):
        part = {"type": "input_file", "file_data": data}
        assert "file inputs are not currently supported" in str(fault(input=[{"role": "user", "content": [part]}]))


@pytest.mark.req("RESP-03")
def test_sampling_format_and_effort_are_those_of_the_flow() -> None:
    schema = {"type": "object"}
    text = {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": schema}, "verbosity": "low"}
    ask = decoded(max_output_tokens=5, top_p=0.5, reasoning={"effort": "none"}, text=text, truncation="auto", metadata={}).ask
    assert ask.options == {"num_predict": 5, "top_p": 0.5}
    assert (ask.format, ask.think, ask.truncate, ask.shift, ask.warnings) == (schema, False, True, False, ())
    assert decoded(text={"format": {"type": "json_object"}}).ask.format == "json"
    assert decoded(include=["message.output_text.logprobs"], top_logprobs=2).ask.logprobs


@pytest.mark.req("RESP-04")
def test_members_of_a_namespace_are_offered_and_come_back_apart() -> None:
    request = decoded(tools=[MATH, PATCH], tool_choice={"type": "function", "name": "add"})
    assert isinstance(request.ask.prompt, Conversation)
    assert [tool.name for tool in request.ask.prompt.tools] == ["math.add", "apply_patch"]
    assert request.ask.prompt.tool_choice == ToolChoice("required", ("math.add",))
    events: list[Event] = [Prompted(1), *call(0, "math.add", "{}"), *call(1, "apply_patch", '{"input": "a\\nb"}'), DONE]
    first, second = whole(request, [folded(events)])["output"]
    assert (first["type"], first["namespace"], first["name"], first["arguments"]) == ("function_call", "math", "add", "{}")
    assert (second["type"], second["name"], second["input"]) == ("custom_tool_call", "apply_patch", "a\nb")


@pytest.mark.req("RESP-04")
def test_tools_that_cannot_be_served_are_left_out_with_a_warning() -> None:
    request = decoded(tools=[{"type": "local_shell"}, ADD, {"type": "image_generation"}])
    assert [text.split('"')[1] for text in request.ask.warnings] == ["local_shell", "image_generation"]
    assert len(conversation(tools=[{"type": "web_search"}]).tools) == 0
    assert conversation(tools=[ADD], tool_choice="none").tools == ()


@pytest.mark.req("RESP-04")
def test_parameters_that_are_no_schema_are_refused_by_their_place() -> None:
    error = fault(tools=[{"type": "function", "name": "x", "parameters": {"properties": {"a": {"type": 5}}}}])
    assert (error.param, error.status) == ("tools[0].parameters.properties.a.type", 400)


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"k": "v" * (9 << 20)}},
        {"text": {"format": {"type": "text"}, "x": "y" * (9 << 20)}},
        {"tools": [{"type": "z" * (9 << 20)}]},
        {"instructions": "x" * (9 << 20)},
    ],
)
def test_what_would_be_repeated_in_megabytes_is_refused(fields: dict[str, Any]) -> None:
    assert "what the answer repeats holds" in str(fault(**fields))


@pytest.mark.req("RESP-05")
def test_a_response_repeats_its_request() -> None:
    fields = {
        "metadata": {"k": "v"},
        "store": False,
        "top_p": 0.5,
        "truncation": "auto",
        "parallel_tool_calls": False,
        "tool_choice": "none",
        "tools": [ADD],
        "max_output_tokens": 50,
        "instructions": "i",
        "prompt_cache_key": "p",
        "safety_identifier": "s",
        "reasoning": {"effort": "low"},
    }
    request = decoded(**fields)
    response = whole(request, [folded(TEXT)])
    expected = {**fields, "tools": [{**ADD, "strict": None}]}
    assert {name: response[name] for name in expected} == expected
    assert request.is_stored is False and decoded().is_stored
    assert (response["object"], response["status"], response["error"], response["background"]) == (
        "response",
        "completed",
        None,
        False,
    )
    assert response["usage"] == {
        "input_tokens": 22,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 13,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 35,
    }


@pytest.mark.req("RESP-05")
def test_an_answer_cut_by_length_is_incomplete_on_the_item_too() -> None:
    response = whole(decoded(), [folded([*TEXT[:-1], CUT])])
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert response["output"][-1]["status"] == "incomplete"


ANSWERS: dict[str, list[Event]] = {
    "text": TEXT,
    "thought": THOUGHT,
    "calls": [Prompted(1), *call(0), *call(1, "apply_patch", '{"input": ', '"x"}'), DONE],
    "all": [*THOUGHT[:-1], *call(0), Delta("rest"), DONE],
    "cut": [*TEXT[:-1], CUT],
    "cut thought": [Prompted(1), Delta(thinking="Hm"), CUT],
    "cut behind a call": [Prompted(1), *call(0), CUT],
    "nothing": [Prompted(1), DONE],
}

BROKEN: dict[str, list[Event]] = {  # calls that were begun and came to nothing: their text is content
    "a broken call": [Prompted(1), *call(0)[:-1], Delta("<tool_call>"), DONE],
    "a cut call": [*THOUGHT[:-1], *call(1, "apply_patch", '{"input": "x')[:-1], Delta("<tool_call>"), CUT],
    "a call without its text": [Prompted(1), *call(0)[:-1], CUT],
}
ALL = ANSWERS | BROKEN


def without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        changing = ("id", "item_id", "created_at", "completed_at")
        return {key: without_ids(each) for key, each in value.items() if key not in changing}
    return [without_ids(each) for each in value] if isinstance(value, list) else value


@pytest.mark.req("RESP-06")
@pytest.mark.parametrize("name", ANSWERS)
def test_the_streamed_response_is_the_whole_one(name: str) -> None:
    request = decoded(tools=[ADD, PATCH])
    last = data_of(sent(ResponseStream(request), ANSWERS[name]))[-1]
    expected = whole(request, [folded(ANSWERS[name])])
    assert last["type"] == f"response.{expected['status']}"
    assert without_ids(last["response"]) == without_ids(expected)


@pytest.mark.req("RESP-06")
@pytest.mark.parametrize("name", ALL)
def test_numbers_have_no_gaps_and_ids_agree(name: str) -> None:
    events = data_of(sent(ResponseStream(decoded(tools=[ADD, PATCH])), ALL[name]))
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    assert [each["type"] for each in events[:2]] == ["response.created", "response.in_progress"]
    ids = [each["item"]["id"] for each in events if each["type"] == "response.output_item.added"]
    for each in events:
        if "output_index" in each:
            assert ids[each["output_index"]] == each.get("item_id", each.get("item", {}).get("id"))
    assert [each["id"] for each in events[-1]["response"]["output"]] == ids


@pytest.mark.req("RESP-06")
@pytest.mark.parametrize("name", BROKEN)
def test_the_item_of_a_call_that_came_to_nothing_is_incomplete(name: str) -> None:
    events = data_of(sent(ResponseStream(decoded(tools=[ADD, PATCH])), BROKEN[name]))
    added, done = (
        [each["item"] for each in events if each["type"] == f"response.output_item.{end}"] for end in ("added", "done")
    )
    assert [each["id"] for each in added] == [each["id"] for each in done]
    assert {each["status"] for each in done if each["type"].endswith("_call")} == {"incomplete"}


@pytest.mark.req("RESP-06")
def test_the_events_of_items_come_in_their_order() -> None:
    types = [each["type"].removeprefix("response.") for each in data_of(sent(ResponseStream(decoded()), ANSWERS["all"]))]
    assert [kind for n, kind in enumerate(types) if n == 0 or kind != types[n - 1]] == [
        *("created", "in_progress", "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "output_item.added", "function_call_arguments.delta", "function_call_arguments.done"),
        *("output_item.done", "output_item.added", "content_part.added", "output_text.delta", "output_text.done"),
        *("content_part.done", "output_item.done", "completed"),
    ]


@pytest.mark.req("RESP-06")
def test_a_failure_is_told_with_code_and_message_and_silence_is_in_progress() -> None:
    stream = ResponseStream(decoded())
    assert stream.feed((0, Prompted(1))) == b""
    events = data_of(stream.ping() + stream.ping() + stream.feed((0, Delta("x"))) + stream.fail(EngineDied("it died")))
    assert [each["type"] for each in events[:3]] == ["response.created", "response.in_progress", "response.in_progress"]
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.failed" and events[-1]["response"]["status"] == "failed"
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "it died"}


@pytest.mark.req("RESP-03")
def test_log_probabilities_come_where_they_were_asked_for() -> None:
    events: list[Event] = [Prompted(1), Delta("a", logprobs=[Logprob("a", -0.5, [97])]), DONE]
    request = decoded(include=["message.output_text.logprobs"])
    expected = [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]
    assert whole(request, [folded(events)])["output"][0]["content"][0]["logprobs"] == expected
    assert whole(decoded(), [folded(events)])["output"][0]["content"][0]["logprobs"] == []
