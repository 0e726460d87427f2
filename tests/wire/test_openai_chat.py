"""OpenAI's chat on the wire: what a body becomes."""

import json
from typing import Any

import pytest

from serow.errors import EngineDied, Incapable, ModelNotFound, PictureError, PromptTooLong, RequestError, SerowError
from serow.inference.ask import Conversation, Image, Message, Text, ToolCall, ToolChoice
from serow.wire.errors import error_body as told_error
from serow.wire.openai_answer import error_body
from serow.wire.openai_chat import ChatRequest, decode

HI: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"const": 1}}}}}
NOW = {"type": "function", "function": {"name": "now"}}
PICTURE = "data:image/png;base64,iVBORw0KGgo="


def decoded(**fields: Any) -> ChatRequest:
    return decode(json.dumps({**HI, **fields}).encode())


def conversation(**fields: Any) -> Conversation:
    prompt = decoded(**fields).ask.prompt
    assert isinstance(prompt, Conversation)
    return prompt


def fault(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as raised:
        decoded(**fields)
    return raised.value


def messages(*given: dict[str, Any]) -> tuple[Message, ...]:
    return tuple(conversation(messages=list(given)).messages)


@pytest.mark.req("OAI-01")
def test_keys_match_in_any_case_null_is_absent_and_the_last_duplicate_wins() -> None:
    body = b'{"Model":"x","MODEL":"m","Messages":[{"Role":"USER","CONTENT":"Hi","name":null}],"n":null} trailing'
    ask = decode(body).ask
    assert (ask.model, ask.prompt) == ("m", Conversation((Message("user", (Text("Hi"),)),), []))


@pytest.mark.req("OAI-01")
def test_known_fields_pass_without_a_word_and_unknown_ones_are_named() -> None:
    known = {"user": "u", "metadata": {"k": "v"}, "store": True, "service_tier": "auto", "verbosity": "low"}
    assert decoded(**known, modalities=["text"]).ask.warnings == ()
    warnings = decoded(nonsense=1, prediction={}, audio={}).ask.warnings
    assert warnings == tuple(f'unknown field "{name}" was ignored' for name in ("nonsense", "prediction", "audio"))


@pytest.mark.req("OAI-01", "OAI-02")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", "x"),
        ("stream", "true"),
        ("max_tokens", 5.5),
        ("temperature", "0"),
        ("top_p", True),
        ("stop", 5),
        ("response_format", "json"),
        ("n", "2"),
        ("tools", {}),
        ("tool_choice", 1),
        ("logit_bias", 5),
        ("seed", "x"),
        ("seed", 1.5),
        ("top_k", 1.5),
        ("logprobs", 1),
        ("stream_options", []),
        ("reasoning", "high"),
        ("model", 5),
        ("chat_template_kwargs", "x"),
        ("options", []),
    ],
)
def test_a_field_of_the_wrong_type_is_named(field: str, value: Any) -> None:
    error = fault(**{field: value})
    assert (error.param, error.code, error.status) == (field, "invalid_type", 400)


@pytest.mark.req("OAI-02")
@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"messages": []}, "messages", "[] is too short - 'messages'"),
        ({"model": ""}, "model", "model is required"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "messages[0].role", "narrator"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "required"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid message content type: <nil>"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "no parts"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", "is required"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "messages[0].content[0].type", "file"),
        ({"messages": [5]}, "messages[0]", "object"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"temperature": 5}, "temperature", "between 0 and 2"),
        ({"top_p": 7}, "top_p", "between 0 and 1"),
        ({"frequency_penalty": 9}, "frequency_penalty", "between -2 and 2"),
        ({"stop": ["", 5]}, "stop[1]", "string"),
        ({"logit_bias": {"1": 100, "2": -100.5}}, "logit_bias", 'of "2" must be between -100 and 100'),
        ({"n": 17}, "n", "between 1 and 16"),
        ({"n": 0}, "n", "between 1 and 16"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "top_logprobs must be between 0 and 20"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "xml"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "required"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema", "required"),
        ({"tools": [{"type": "custom", "custom": {"name": "sql"}}]}, "tools[0].type", "custom"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "required"),
        ({"tools": [{"type": "function", "function": {"parameters": {}}}]}, "tools[0].function.name", "required"),
        (
            {"tools": [{"function": {"name": "x", "parameters": {"type": 5}}}]},
            "tools[0].function.parameters.type",
            "no type of JSON Schema",
        ),
        ({"functions": [{"name": "x", "parameters": {"anyOf": {}}}]}, "functions[0].parameters.anyOf", "an array"),
        ({"tools": [ADD], "tool_choice": "maybe"}, "tool_choice", "maybe"),
        ({"tool_choice": "required"}, "tool_choice", "tools"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "sub"}}}, "tool_choice", "sub"),
        ({"tools": [ADD], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.tools", "required"),
        ({"tools": [ADD], "tool_choice": {"type": "allowed_tools", "tools": []}}, "tool_choice.tools", "required"),
        ({"reasoning_effort": "nope"}, "reasoning_effort", 'invalid reasoning value: "nope" (must be '),
        ({"reasoning": {"effort": "nope"}}, "reasoning.effort", "invalid reasoning value"),
        ({"options": {"num_ctx": 3}}, "options.num_ctx", "num_ctx"),
        ({"keep_alive": "30"}, "keep_alive", "missing unit"),
        ({"truncation": "some"}, "truncation", "auto"),
        ({"modalities": ["audio"]}, "modalities[0]", "audio"),
    ],
)
def test_a_fault_names_the_path_of_its_field(fields: dict[str, Any], param: str, words: str) -> None:
    error = fault(**fields)
    assert (error.param, error.status) == (param, 400)
    assert words in str(error) and error.code


@pytest.mark.req("OAI-02")
@pytest.mark.parametrize(
    ("error", "body"),
    [
        (
            RequestError("no", param="n", code="invalid_value"),
            {"message": "no", "type": "invalid_request_error", "param": "n", "code": "invalid_value"},
        ),
        (
            ModelNotFound("x"),
            {"message": "model 'x' not found", "type": "not_found_error", "param": None, "code": "model_not_found"},
        ),
        (EngineDied("gone"), {"message": "gone", "type": "api_error", "param": None, "code": None}),
    ],
)
def test_an_error_has_all_four_keys(error: Any, body: dict[str, Any]) -> None:
    assert error_body(error) == {"error": body}


@pytest.mark.req("OAI-02", "OAI-05")
@pytest.mark.parametrize(
    ("error", "path", "param", "code"),
    [
        (Incapable("m", "images"), "/v1/chat/completions", "model", "invalid_value"),
        (PictureError("image 0 can't be read"), "/v1/chat/completions", "messages", "invalid_value"),
        (PictureError("image 0 can't be read"), "/v1/responses", "input", "invalid_value"),
        (PromptTooLong(3, 2), "/v1/completions", "prompt", "context_length_exceeded"),
    ],
)
def test_an_error_of_the_flow_names_the_field_too(error: SerowError, path: str, param: str, code: str) -> None:
    told = told_error("openai", path, error, "id")["error"]
    assert (told["param"], told["code"]) == (param, code)


@pytest.mark.req("OAI-02", "OAI-07")
def test_a_prompt_that_is_too_long_says_so_in_the_word_that_agents_compact_on() -> None:
    body = error_body(PromptTooLong(3000, 2048), "messages")["error"]
    assert (body["code"], body["param"]) == ("context_length_exceeded", "messages")
    assert "3000" in body["message"] and "2048" in body["message"]


@pytest.mark.req("OAI-04")
def test_roles_are_those_of_the_flow() -> None:
    given = [{"role": role, "content": "x"} for role in ("developer", "SYSTEM", "user", "assistant", "tool", "function")]
    assert [each.role for each in messages(*given)] == ["system", "system", "user", "assistant", "tool", "tool"]


@pytest.mark.req("OAI-04", "OAI-05")
def test_texts_are_joined_by_a_newline_and_pictures_stay_where_they_are() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "refusal", "refusal": "b"},
        {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
        {"type": "text", "text": "c"},
        {"type": "image_url", "image_url": PICTURE},
    ]
    (message,) = messages({"role": "user", "content": parts})
    assert message.content == (Text("a\nb"), Image(PICTURE), Text("c"), Image(PICTURE))


@pytest.mark.req("OAI-04", "OAI-13")
@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}, {"content": []}])
@pytest.mark.parametrize("role", ["assistant", "tool"])
def test_an_assistant_or_a_tool_may_say_nothing(role: str, content: dict[str, Any]) -> None:
    (message,) = messages({"role": role, **content})
    assert message.text == ""


@pytest.mark.req("OAI-05")
@pytest.mark.parametrize("url", [PICTURE, PICTURE.replace("png", "gif"), "data:;base64,iVBO", "iVBORw0KGgo=", "aGk_-\n"])
def test_a_data_uri_or_bare_base64_is_a_picture(url: str) -> None:
    (message,) = messages({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})
    assert message.content == (Image(url),)


@pytest.mark.req("OAI-05")
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9/x.png", "image URLs are not currently supported, please use base64 encoded data instead"),
        ("HTTPS://x", "image URLs are not currently supported, please use base64 encoded data instead"),
        ("file:///etc/passwd", "invalid image input"),
        ("ftp://x", "invalid image input"),
        ("", "invalid image input"),
    ],
)
def test_a_url_is_never_fetched(url: str, words: str) -> None:
    error = fault(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])
    assert (str(error), error.param) == (words, "messages[0].content[0].image_url.url")


@pytest.mark.req("OAI-06")
@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"max_tokens": 7, "max_completion_tokens": 3}, {"num_predict": 3}),
        ({"max_tokens": -5}, {"num_predict": -1}),
        ({"stop": "x"}, {"stop": ("x",)}),
        ({"stop": ["", "x", "1", "2", "3", "4"]}, {"stop": ("x", "1", "2", "3", "4")}),
        ({"stop": ""}, {}),
        ({"temperature": 0, "top_p": 0.5, "seed": 3, "top_k": 5, "min_p": 0.1, "repeat_penalty": 1.1}, None),
        ({"options": {"num_ctx": 512, "temperature": 1}, "temperature": 0}, {"num_ctx": 512, "temperature": 0.0}),
        ({"logit_bias": {"1": -100}}, {"logit_bias": ((1, -100.0),)}),
        ({"options": {"logit_bias": {"1": -1e9}}}, {"logit_bias": ((1, -1e9),)}),
        ({}, {}),
    ],
)
def test_sampling_is_said_by_openais_names_and_by_ours(fields: dict[str, Any], options: dict[str, Any] | None) -> None:
    ask = decoded(**fields).ask
    assert ask.options == (fields if options is None else options)
    assert ask.fallbacks == {"temperature": 1.0, "top_p": 1.0}


@pytest.mark.req("OAI-06")
def test_an_unknown_option_is_named_and_keep_alive_is_seconds() -> None:
    ask = decoded(options={"nope": 1}, keep_alive="1m").ask
    assert (ask.warnings, ask.keep_alive) == (('unknown field "options.nope" was ignored',), 60.0)


@pytest.mark.req("OAI-07")
def test_choices_count_the_seed_on_and_a_prompt_is_cut_only_where_it_may_be() -> None:
    request = decoded(n=3, seed=7)
    assert [ask.options["seed"] for ask in request.asks] == [7, 8, 9]
    assert len(decoded(n=2).asks) == 2
    assert (request.ask.truncate, decoded(truncation="auto").ask.truncate) == (False, True)


@pytest.mark.req("OAI-11")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": " TEXT "}, None),
        ({"type": "json_object"}, "json"),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"type": "object"}}},
            {"type": "object"},
        ),
    ],
)
def test_a_response_format_is_a_format(given: dict[str, Any], expected: Any) -> None:
    assert decoded(response_format=given).ask.format == expected


@pytest.mark.req("OAI-12")
def test_a_tool_reaches_template_and_grammar_whole() -> None:
    whole_tool = {"type": "function", "function": {**ADD["function"], "strict": True}}  # type: ignore[dict-item]
    first, second = conversation(tools=[whole_tool, NOW]).tools
    assert (first.definition, first.parameters) == (whole_tool, ADD["function"]["parameters"])  # type: ignore[index]
    assert second.parameters == {"type": "object", "properties": {}}
    assert second.definition["function"]["parameters"] == second.parameters


@pytest.mark.req("OAI-12")
@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ToolChoice()),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "now"}}, ToolChoice("required", ("now",))),
        ({"type": "function", "name": "now"}, ToolChoice("required", ("now",))),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "name": "add"}]}},
            ToolChoice("required", ("add",)),
        ),
    ],
)
def test_a_choice_among_tools_is_obeyed(choice: Any, expected: ToolChoice) -> None:
    assert conversation(tools=[ADD, NOW], tool_choice=choice).tool_choice == expected


@pytest.mark.req("OAI-12")
def test_no_tools_are_rendered_where_none_is_to_be_called_and_one_call_is_the_most_without_parallel() -> None:
    assert conversation(tools=[ADD], tool_choice="none").tools == ()
    assert conversation(tools=[ADD], parallel_tool_calls=False).tool_choice == ToolChoice(parallel=False)
    assert conversation(tools=[], tool_choice="none").tools == ()


@pytest.mark.req("OAI-12")
def test_what_cannot_be_served_is_left_out_with_a_warning_and_old_functions_are_tools() -> None:
    request = decoded(tools=[{"type": "custom", "custom": {"name": "sql"}}, ADD])
    assert request.ask.warnings == ('tools[0] of type "custom" can\'t be served and was left out',)
    old = decoded(functions=[ADD["function"]], function_call={"name": "add"})
    assert isinstance(old.ask.prompt, Conversation)
    assert (old.ask.prompt.tools[0].name, old.ask.prompt.tool_choice.names) == ("add", ("add",))
    assert "functions" in old.ask.warnings[0]


@pytest.mark.req("OAI-13")
@pytest.mark.parametrize(
    ("given", "arguments"),
    [('{ "b": 3, "a": 4 }', '{ "b": 3, "a": 4 }'), ("", "{}"), ("{a: 1", "{a: 1"), ({"b": 1, "a": 2}, '{"b":1,"a":2}')],
)
def test_the_arguments_of_a_call_go_on_byte_for_byte(given: Any, arguments: str) -> None:
    call = {"id": "c", "index": 0, "type": "function", "function": {"name": "add", "arguments": given}}
    first, second = messages(
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "name": "add", "content": [{"type": "text", "text": "7"}]},
    )
    assert first.tool_calls == (ToolCall("add", arguments, "c"),)
    assert (second.tool_call_id, second.tool_name, second.text) == ("c", "add", "7")


@pytest.mark.req("OAI-14")
@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "xhigh"}, "max"),
        ({"reasoning_effort": "high", "reasoning": {"effort": "none"}}, False),
        ({"reasoning": {"summary": "auto"}, "reasoning_effort": "medium"}, "medium"),
    ],
)
def test_effort_says_how_much_to_think_and_is_required_of_no_model(fields: dict[str, Any], think: Any) -> None:
    ask = decoded(**fields).ask
    assert (ask.think, ask.think_required) == (think, False)


@pytest.mark.req("OAI-04")
def test_an_answer_that_goes_on_is_written_without_another_thought() -> None:
    begun = [HI["messages"][0], {"role": "assistant", "content": "37 + 85 = 1"}]
    assert decoded(messages=begun, reasoning_effort="high").ask.think is False
    assert decoded(messages=[HI["messages"][0], {"role": "assistant", "content": ""}]).ask.think is None


@pytest.mark.req("OAI-14")
@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_the_thought_of_the_history_goes_to_the_template(name: str) -> None:
    (message,) = messages({"role": "assistant", "content": "x", name: "Hm."})
    assert message.thinking == "Hm."
    assert conversation(chat_template_kwargs={"enable_thinking": False}).template_kwargs == {"enable_thinking": False}


@pytest.mark.req("OAI-07")
@pytest.mark.parametrize(("truncation", "expected"), [(None, True), ("auto", True), ("disabled", False)])
def test_the_setting_holds_where_a_body_says_nothing_of_truncation(truncation: str | None, expected: bool) -> None:
    body = json.dumps({**HI, "truncation": truncation}).encode()
    assert decode(body, truncates=True).ask.truncate is expected
    assert decode(body).ask.truncate is (truncation == "auto")
