"""Anthropic's messages on the wire: what a body becomes, and what events become."""

import json
from typing import Any

import pytest

from serow.errors import (
    EngineError,
    Forbidden,
    ModelNotFound,
    PromptTooLong,
    RequestError,
    SerowError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from serow.inference.ask import Conversation, Image, Message, Text, ToolCall, ToolChoice
from serow.wire.anthropic import MessagesRequest, decode, error_body

HI: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
ADD = {"name": "add", "description": "Adds", "input_schema": {"type": "object", "properties": {"a": {"const": 1}}}}
THINKS = {"type": "enabled", "budget_tokens": 1024}
BASE64 = {"type": "base64", "media_type": "image/png", "data": "iVBO"}


def decoded(**fields: Any) -> MessagesRequest:
    return decode(json.dumps({**HI, **fields}).encode())


def conversation(**fields: Any) -> Conversation:
    prompt = decoded(**fields).ask.prompt
    assert isinstance(prompt, Conversation)
    return prompt


def messages(*given: dict[str, Any], **fields: Any) -> tuple[Message, ...]:
    return tuple(conversation(messages=list(given), **fields).messages)


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}


def fault(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as raised:
        decoded(**fields)
    return raised.value


@pytest.mark.req("ANT-01")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"null", "model is required"),
        (b'{"messages": []}', "model is required"),
        (b'{"model": "m", "messages": []}', "max_tokens is required and must be positive"),
        (b'{"model": "m", "max_tokens": 0}', "max_tokens is required and must be positive"),
        (b'{"model": "m", "max_tokens": 1, "messages": []}', "messages is required"),
        (b"", "missing request body"),
    ],
)
def test_what_is_required_is_missed_in_this_order(body: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        decode(body)


@pytest.mark.req("ANT-01")
def test_known_fields_pass_without_a_word_and_unknown_ones_are_named() -> None:
    known = {"metadata": {"user_id": "u"}, "service_tier": "auto", "context_management": {}, "speed": "standard"}
    assert decoded(**known, mcp_servers=[], container="c", cache_control={}).ask.warnings == ()
    assert decoded(nonsense=1).ask.warnings == ('unknown field "nonsense" was ignored',)


@pytest.mark.req("ANT-01")
def test_a_thread_is_refused_in_the_words_that_make_the_sdk_send_everything() -> None:
    body = error_body(fault(thread={"type": "create"}), "req_1")
    assert body["error"]["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


@pytest.mark.req("ANT-01", "ANT-02")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", "x"),
        ("max_tokens", "5"),
        ("system", 5),
        ("tools", {}),
        ("thinking", True),
        ("tool_choice", "auto"),
        ("stop_sequences", 5),
        ("stop_sequences", "x"),
        ("output_config", []),
        ("stream", 1),
        ("temperature", "x"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(field: str, value: Any) -> None:
    assert f'"{field}"' in str(fault(**{field: value}))


@pytest.mark.req("ANT-02")
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RequestError("x"), "invalid_request_error"),
        (Unauthorized("x"), "authentication_error"),
        (Forbidden("x"), "permission_error"),
        (ModelNotFound("x"), "not_found_error"),
        (TooLarge("x"), "request_too_large"),
        (Unavailable("x"), "overloaded_error"),
        (EngineError("x"), "api_error"),
    ],
)
def test_an_error_has_its_type_and_the_id_of_its_request(error: SerowError, kind: str) -> None:
    message = str(error)
    assert error_body(error, "req_1") == {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": "req_1",
    }


@pytest.mark.req("ANT-05")
def test_a_prompt_that_is_too_long_is_told_in_the_words_that_clients_compact_on() -> None:
    assert error_body(PromptTooLong(3000, 2048), "r")["error"]["message"] == "prompt is too long: 3000 tokens > 2048 maximum"


@pytest.mark.req("ANT-03")
@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("A", "A"),
        ([text("A"), text("B")], "AB"),
        ([{"type": "text", "text": "x-anthropic-billing-header: cch=1;"}, text("B")], "B"),
        ([], None),
        ("", None),
    ],
)
def test_the_system_text_stands_in_front_without_what_changes_in_each_request(system: Any, expected: str | None) -> None:
    first = conversation(system=system).messages[0]
    assert (first.role, first.text) == (("user", "Hi") if expected is None else ("system", expected))


@pytest.mark.req("ANT-03")
def test_neighbours_of_one_role_are_one_turn_and_a_system_message_stays_in_its_place() -> None:
    given = [{"role": role, "content": words} for role, words in (("user", "a"), ("user", "b"), ("system", "c"), ("user", "d"))]
    assert [(each.role, each.text) for each in messages(*given)] == [("user", "a\nb"), ("system", "c"), ("user", "d")]


@pytest.mark.req("ANT-03", "ANT-04")
@pytest.mark.parametrize(
    ("message", "param", "words"),
    [
        ({"role": "tool", "content": "x"}, "messages[0].role", "tool"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text", "is required"),
        ({"role": "user", "content": []}, "messages[0].content", "content"),
        ({"role": "user"}, "messages[0].content", "content"),
        (user({"type": "redacted_thinking", "data": "x"}), "messages", "nothing to answer"),
        (user({"type": "hologram"}), "messages[0].content[0].type", "hologram"),
        (user({"type": "image"}), "messages[0].content[0].source", "required"),
        (
            user({"type": "image", "source": {"type": "url", "url": "http://x"}}),
            "messages[0].content[0].source.type",
            "invalid image source type: url. Only base64 images are supported.",
        ),
        (user({"type": "document", "source": {"type": "base64"}}), "messages[0].content[0].source.type", "base64"),
        ({"role": "assistant", "content": [{"type": "tool_use", "name": "a"}]}, "messages[0].content[0].id", "required"),
        ({"role": "assistant", "content": [{"type": "tool_use", "id": "a"}]}, "messages[0].content[0].name", "required"),
    ],
)
def test_a_fault_in_a_message_names_its_place(message: dict[str, Any], param: str, words: str) -> None:
    error = fault(messages=[message])
    assert error.param == param and words in str(error)


@pytest.mark.req("ANT-04")
def test_blocks_stay_where_they_are() -> None:
    document = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "D"}}
    found = {"type": "search_result", "title": "S", "source": "u", "content": [text("R")]}
    (message,) = messages(user(text("a"), text("b"), {"type": "image", "source": BASE64}, document, found, text("c")))
    assert message.content == (Text("ab"), Image("iVBO"), Text("T\nD\nS\nu\nR\nc"))


@pytest.mark.req("ANT-04")
@pytest.mark.parametrize(
    ("content", "result"),
    [
        ([{"type": "web_search_result", "title": "T", "url": "u", "encrypted_content": "e"}], "T\nu\n"),
        ({"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}, "Error: max_uses_exceeded"),
    ],
)
def test_a_search_and_what_it_found_stand_before_what_was_said_of_it(content: Any, result: str) -> None:
    use = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": content}
    asked, told, said, _ = messages(
        {"role": "assistant", "content": [text("I look."), use, found, text("So.")]}, user(text("Hi"))
    )
    assert (asked.text, asked.tool_calls) == ("I look.", (ToolCall("web_search", '{"query": "q"}', "s"),))
    assert (told.role, told.tool_name, told.text) == ("tool", "web_search", result)
    assert (said.role, said.text, said.tool_calls) == ("assistant", "So.", ())


@pytest.mark.req("ANT-06")
def test_results_come_before_the_text_and_name_their_tool() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "add", "input": {"b": 1, "a": {"y": 2, "x": 3}}}
    other = {"type": "tool_use", "id": "t2", "name": "now", "input": {}}
    results = [
        text("Go on."),
        {"type": "tool_result", "tool_use_id": "t2", "content": [text("9"), {"type": "image", "source": BASE64}]},
        {"type": "tool_result", "tool_use_id": "t1", "is_error": True},
        {"type": "tool_result", "tool_use_id": "t1", "content": "no", "is_error": True},
    ]
    said, second, first, third, rest = messages({"role": "assistant", "content": [text("I add."), use, other]}, user(*results))
    assert said.tool_calls == (ToolCall("add", '{"b": 1, "a": {"y": 2, "x": 3}}', "t1"), ToolCall("now", "{}", "t2"))
    assert (second.role, second.tool_name, second.tool_call_id) == ("tool", "now", "t2")
    assert second.content == (Text("9"), Image("iVBO"))
    assert (first.text, third.text, rest.role, rest.text) == ("Error: the tool failed", "Error: no", "user", "Go on.")


@pytest.mark.req("ANT-05")
def test_sampling_is_the_models_own_where_nothing_is_said() -> None:
    ask = decoded(top_k=5, stop_sequences=["a", ""]).ask
    assert (ask.options, ask.fallbacks, ask.truncate, ask.shift) == (
        {"num_predict": 9, "top_k": 5, "stop": ("a",)},
        {},
        False,
        False,
    )


@pytest.mark.req("ANT-05")
def test_an_output_format_binds_the_answer() -> None:
    output = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert decoded(output_config=output).ask.format == {"type": "object"}
    assert fault(output_config={"format": {"type": "text"}}).param == "output_config.format.type"


@pytest.mark.req("ANT-06")
def test_tools_go_on_whole_and_those_without_a_schema_are_left_out_with_a_warning() -> None:
    request = decoded(tools=[ADD, {"type": "bash_20250124", "name": "bash"}, {"type": "web_search_20250305", "name": "web"}])
    assert isinstance(request.ask.prompt, Conversation)
    (tool,) = request.ask.prompt.tools
    function = {"name": "add", "description": "Adds", "parameters": ADD["input_schema"]}
    assert (tool.parameters, tool.definition) == (ADD["input_schema"], {"type": "function", "function": function})
    assert "bash" in request.ask.warnings[0] and "web" in request.ask.warnings[1]
    assert str(fault(tools=[{"name": "x", "input_schema": 5}])) == 'invalid input_schema for tool "x"'
    words = 'invalid input_schema for tool "x": tools[0].input_schema.type is no type of JSON Schema'
    assert str(fault(tools=[{"name": "x", "input_schema": {"type": 5}}])).startswith(words)


@pytest.mark.req("ANT-06")
@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, ToolChoice()),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required", parallel=False)),
        ({"type": "tool", "name": "add"}, ToolChoice("required", ("add",))),
    ],
)
def test_a_choice_among_tools_is_obeyed(choice: Any, expected: ToolChoice) -> None:
    assert conversation(tools=[ADD], tool_choice=choice).tool_choice == expected
    assert conversation(tools=[ADD], tool_choice={"type": "none"}).tools == ()
    assert fault(tools=[ADD], tool_choice={"type": "tool", "name": "sub"}).param == "tool_choice.name"
    assert fault(tools=[ADD], tool_choice={"type": "some"}).param == "tool_choice.type"


@pytest.mark.req("ANT-07")
@pytest.mark.parametrize(
    ("fields", "think", "budget"),
    [
        ({}, False, None),
        ({"thinking": {"type": "disabled"}}, False, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True, 1024),
        ({"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "xhigh"}}, "max", None),
        ({"thinking": {"type": "adaptive"}}, True, None),
    ],
)
def test_thinking_is_off_unless_asked_for(fields: dict[str, Any], think: Any, budget: int | None) -> None:
    ask = decoded(**fields).ask
    assert (ask.think, ask.options.get("think_budget"), ask.think_required) == (think, budget, False)
    assert fault(thinking={"type": "maybe"}).param == "thinking.type"


@pytest.mark.req("ANT-07")
def test_the_thought_of_the_history_goes_to_the_template() -> None:
    blocks = [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}, text("3")]
    (message,) = messages({"role": "assistant", "content": blocks})
    assert (message.thinking, message.text) == ("Hm.", "3")


@pytest.mark.req("ANT-10")
def test_tokens_are_counted_without_max_tokens() -> None:
    body = json.dumps({name: value for name, value in HI.items() if name != "max_tokens"}).encode()
    assert decode(body, is_counted=True).ask.prompt == Conversation((Message("user", (Text("Hi"),)),), [], folds_system=True)
