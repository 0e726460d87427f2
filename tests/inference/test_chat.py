"""/api/chat with an engine that says what the test wrote (CHAT-01 to CHAT-13)."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from serow.engines.base import CompletionRequest
from serow.errors import InvalidModelName, MessagesRefused, ModelNotFound, PromptTooLong, RequestError
from serow.inference.events import Done
from serow.store.model import Capability
from serow.wire.anthropic import decode
from serow.wire.json import encode
from serow.wire.ollama_chat import decode_chat
from tests.support.engine import FakeEngine, Template, plain_template
from tests.support.flow import flow

THINKS: tuple[Capability, ...] = ("completion", "thinking")
TOOLS: tuple[Capability, ...] = ("completion", "tools")
THINK = "{{ messages }}<think>"  # a Jinja template that names the tags
MESSAGES = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}</>{{ end }}<assistant>"
ADD = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]}


def said(role: str, content: str = "", **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


@pytest.mark.req("CHAT-08")
async def test_each_token_is_a_message_of_the_assistant_and_the_last_record_counts() -> None:
    async with flow(FakeEngine(["Hel", "lo"])) as asked:
        *pieces, last = await asked.chat("Hi")
        whole = await asked.reply("Hi", logprobs=True)
    assert [piece["message"] for piece in pieces] == [{"role": "assistant", "content": text} for text in ("Hel", "lo")]
    assert last["message"] == {"role": "assistant", "content": ""} and (last["done"], last["done_reason"]) == (True, "stop")
    assert last["eval_count"] == 3 and last["total_duration"] > 0 and "context" not in last
    assert whole["message"] == {"role": "assistant", "content": "Hello"}
    assert [entry["token"] for entry in whole["logprobs"]] == ["Hel", "lo"]


@pytest.mark.req("CHAT-01")
async def test_fields_of_generate_are_none_of_chat_and_are_named() -> None:
    fields = {"template": "x", "system": "x", "raw": True, "suffix": "x", "context": [1], "prompt": "x", "images": ["x"]}
    engine = FakeEngine(["x"])
    async with flow(engine) as asked:
        record = await asked.reply("Hi", **fields, options={"odd": 1})
    assert engine.prompts == ["[user]Hi\n[assistant]"]
    assert record["warnings"] == [
        *(f'unknown field "{name}" was ignored' for name in fields),
        'unknown option "odd" was ignored',
    ]


@pytest.mark.req("CHAT-01", "CHAT-04")
@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"messages": {}}, '"messages" must be an array, not an object'),
        ({"messages": [5]}, '"messages[0]" must be an object, not an integer'),
        ({"messages": [{"role": 5}]}, '"messages[0].role" must be a string, not an integer'),
        ({"messages": [{"content": {}}]}, '"messages[0].content" must be a string, not an object'),
        (
            {"messages": [{"content": [{"type": "audio"}]}]},
            'content parts of type "audio" are not supported: send text or image_url',
        ),
        ({"messages": [{"images": "x"}]}, '"messages[0].images" must be an array, not a string'),
        ({"messages": [{"tool_calls": {}}]}, '"messages[0].tool_calls" must be an array, not an object'),
        ({"stream": "false"}, '"stream" must be a boolean, not a string'),
        ({"truncate": 0}, '"truncate" must be a boolean, not an integer'),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"think": "ultra"}, 'invalid think value: "ultra" (must be "high", "medium", "low", "max", true, or false)'),
    ],
)
async def test_a_field_of_the_wrong_type_is_named(fields: dict[str, Any], error: str) -> None:
    async with flow(FakeEngine(["x"])) as asked:
        with pytest.raises(RequestError) as caught:
            await asked.chat("Hi", **fields)
    assert str(caught.value) == error


@pytest.mark.req("CHAT-02")
@pytest.mark.parametrize(
    ("name", "kind", "error"),
    [
        ("", RequestError, "model is required"),
        ("a//b", InvalidModelName, "invalid model name"),
        ("Nobody", ModelNotFound, "model 'Nobody' not found"),
    ],
)
async def test_a_model_has_a_name_that_the_store_knows(name: str, kind: type[Exception], error: str) -> None:
    async with flow(FakeEngine(["x"])) as asked:
        with pytest.raises(kind) as caught:
            await asked.reply("Hi", model=name)
    assert str(caught.value) == error


@pytest.mark.req("CHAT-02")
@pytest.mark.parametrize("messages", [[], [said("user", "Hi")]])
async def test_an_embedding_model_does_not_chat(messages: list[dict[str, Any]]) -> None:
    async with flow(FakeEngine(["x"]), "embedding") as asked:
        with pytest.raises(RequestError, match='"m" does not support chat'):
            await asked.chat(*messages)


@pytest.mark.req("CHAT-03")
@pytest.mark.parametrize("messages", [{"messages": []}, {"messages": None}])
async def test_without_messages_the_model_is_loaded_or_unloaded(messages: dict[str, Any]) -> None:
    engine = FakeEngine()
    async with flow(engine) as asked:
        (loaded,) = await asked.chat(**messages)
        assert engine.is_alive and loaded["message"] == {"role": "assistant", "content": ""}
        assert (loaded["done"], loaded["done_reason"]) == (True, "load")
        for keep_alive in (0, "0"):
            (unloaded,) = await asked.chat(**messages, keep_alive=keep_alive)
            assert (unloaded["done_reason"], engine.is_alive) == ("unload", False)


@pytest.mark.req("CHAT-03", "TOOL-01")
async def test_what_the_model_can_not_do_is_judged_before_a_load_and_not_before_an_unload() -> None:
    engine = FakeEngine()
    async with flow(engine) as asked:
        for fields, what in (({"tools": [ADD]}, "tools"), ({"think": True}, "thinking")):
            with pytest.raises(RequestError, match=f'"m" does not support {what}'):
                await asked.chat(**fields)
            assert (await asked.chat(**fields, keep_alive=0))[0]["done_reason"] == "unload"
    assert engine.num_loads == 0


@pytest.mark.req("CHAT-04")
async def test_roles_are_known_in_any_case_and_strange_ones_are_named() -> None:
    engine = FakeEngine(["x"])
    async with flow(engine) as asked:
        messages = [said("Developer", "A."), said("USER", "B."), said("critic", "C."), {}, None, said("user")]
        record = await asked.reply(messages=messages)
    assert engine.prompts == ["[system]A.\n[user]B.\n[critic]C.\n[]\n[]\n[user]\n[assistant]"]
    assert record["warnings"] == ['the role "critic" is not known: most templates leave its messages out']


@pytest.mark.req("CHAT-04")
async def test_content_may_be_parts_and_pictures_stand_where_they_are_put(png: str) -> None:
    engine = FakeEngine(["x"])
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}}]
    async with flow(engine, "completion", "vision") as asked:
        await asked.reply(said("user", content=parts))  # type: ignore[arg-type]
        with pytest.raises(RequestError, match="image URLs are not currently supported"):
            await asked.reply({"role": "user", "content": [{"type": "image_url", "image_url": "https://x/y.png"}]})
    assert engine.prompts == ["[user]What?<__media__>\n[assistant]"]


@pytest.mark.req("CHAT-05")
async def test_the_models_own_texts_come_before_the_requests() -> None:
    own = {"system": "S.", "messages": ({"role": "user", "content": "1?"}, {"role": "assistant", "content": "1."})}
    async with flow(FakeEngine(["x"]), **own) as asked:
        assert await asked.shown("2?") == "[system]S.\n[user]1?\n[assistant]1.\n[user]2?\n[assistant]"
        assert await asked.shown(said("system", "T."), "2?") == "[system]T.\n[user]1?\n[assistant]1.\n[user]2?\n[assistant]"
        later = await asked.shown("2?", said("system", "T."), "3?")
    assert later == "[system]S.\n[user]1?\n[assistant]1.\n[user]2?\n[system]T.\n[user]3?\n[assistant]"


@pytest.mark.req("CHAT-06")
async def test_an_answer_that_is_begun_goes_on_and_only_what_is_new_is_sent() -> None:
    engine = FakeEngine([" 122", "."])
    async with flow(engine) as asked:
        record = await asked.reply("37 + 85?", said("assistant", "37 + 85 ="))
    assert engine.prompts == ["[user]37 + 85?\n[assistant]37 + 85 ="] and record["message"]["content"] == " 122."


@pytest.mark.req("CHAT-06", "CHAT-10")
async def test_thinking_that_is_begun_goes_on() -> None:
    engine = FakeEngine(["carry.", "</think>", "\n\n122"])
    async with flow(engine, *THINKS, chat_template=THINK) as asked:
        record = await asked.reply("37 + 85?", said("assistant", thinking="Ones: "))
        both = await asked.shown("37 + 85?", said("assistant", "It is", thinking="Ones."))
    assert engine.prompts == ["[user]37 + 85?\n[assistant]<think>\nOnes: "]
    assert record["message"] == {"role": "assistant", "content": "122", "thinking": "carry."}
    assert both == "[user]37 + 85?\n[assistant]<think>\nOnes.</think>\n\nIt is"


@pytest.mark.req("CHAT-06", "GEN-14")
@pytest.mark.parametrize("template", ["", MESSAGES])
async def test_thinking_that_stands_open_in_a_begun_text_goes_on_as_thinking(template: str) -> None:
    engine = FakeEngine(["carry.", "</think>", "\n\n122"])
    async with flow(engine, *THINKS, chat_template=THINK, template=template) as asked:
        record = await asked.reply("37 + 85?", said("assistant", "<think>\nOnes: "))
    assert engine.prompts[0].endswith("<think>\nOnes: ")
    assert record["message"] == {"role": "assistant", "content": "122", "thinking": "carry."}


@pytest.mark.req("CHAT-03")
async def test_options_are_judged_before_a_load_and_not_before_an_unload() -> None:
    wrong = {"options": {"top_k": "x"}}
    async with flow(FakeEngine(["x"])) as asked:
        assert (await asked.reply(keep_alive=0, **wrong))["done_reason"] == "unload"
        assert (await asked.reply(keep_alive="0s", **wrong))["done_reason"] == "unload"
        for fields in (wrong, {"keep_alive": 0, "options": []}):
            with pytest.raises(RequestError, match="option"):
                await asked.reply(**fields)


@pytest.mark.req("CHAT-06")
async def test_an_answer_goes_on_behind_the_thinking_that_the_template_opens() -> None:
    engine = FakeEngine(["!"], template=lambda messages, _: f"{messages[-1]['content']}|<think>\n")
    async with flow(engine, *THINKS, chat_template=THINK) as asked:
        record = await asked.reply("Hi", said("assistant", "Hello"))
    assert engine.prompts == ["Hi|<think>\n</think>\n\nHello"] and record["message"]["content"] == "!"


@pytest.mark.req("CHAT-06")
async def test_an_empty_answer_begins_as_any_other() -> None:
    async with flow(FakeEngine(["x"])) as asked:
        assert await asked.shown("Hi", said("assistant")) == "[user]Hi\n[assistant]"


@pytest.mark.req("CHAT-06")
async def test_two_answers_at_the_end_are_refused() -> None:
    async with flow(FakeEngine(["x"])) as asked:
        with pytest.raises(RequestError, match="ends in two assistant messages"):
            await asked.reply("Hi", said("assistant", "a"), said("assistant", "b"))


@pytest.mark.req("CHAT-06")
@pytest.mark.parametrize(
    ("template", "text"),
    [
        (MESSAGES, "<user>Hi</><assistant>Hel"),
        ("{{ .Prompt }}|{{ .Response }}|", "Hi|Hel"),
        ("{{ .Prompt }}", "HiHel"),
    ],
)
async def test_a_template_of_the_store_lets_an_answer_go_on(template: str, text: str) -> None:
    async with flow(FakeEngine(["lo"]), template=template) as asked:
        assert await asked.shown("Hi", said("assistant", "Hel")) == text


def as_engines_do(messages: Any, _: Any) -> str:
    """A template of an engine that takes a last message of the assistant for one to continue."""
    goes_on = messages[-1]["role"] == "assistant"
    shown = messages[:-1] if goes_on else messages
    text = "".join(
        f"<{each['role']}>{each['content']}{''.join(call['function']['name'] for call in each.get('tool_calls', ()))}</>\n"
        for each in shown
    )
    return f"{text}<assistant>{messages[-1]['content'] if goes_on else ''}"


@pytest.mark.req("CHAT-06")
async def test_behind_a_call_that_nobody_answered_a_new_turn_begins() -> None:
    async with flow(FakeEngine(["x"], template=as_engines_do), *TOOLS) as asked:
        text = await asked.shown("37 + 85?", CALL)
    assert text == "<user>37 + 85?</>\n<assistant>add</>\n<assistant>"


@pytest.mark.req("CHAT-07")
async def test_a_template_joins_messages_of_one_role_and_knows_what_the_peers_know() -> None:
    template = (
        "{{ .System }}|{{ range .Messages }}{{ .Role }}:{{ .Content }}:{{ .Thinking }}:{{ .ToolName }}:{{ .ToolCallID }}:"
        "{{ len .Images }}{{ range .ToolCalls }} {{ .ID }},{{ .Function.Index }},{{ .Function.Name }},"
        "{{ .Function.Arguments }}{{ end }};{{ end }}{{ range .Tools }}{{ .Function.Name }} {{ .Function.Description }} "
        "{{ range $k, $v := .Function.Parameters.Properties }}{{ $k }} {{ toTypeScriptType $v }}{{ end }}{{ end }}"
    )
    call = {"id": "c1", "function": {"name": "add", "arguments": {"b": 2, "a": 1}}}
    messages = (
        said("system", "A."),
        said("user", "1"),
        said("user", "2"),
        said("system", "B."),
        said("assistant", "I add", thinking="hm", tool_calls=[call]),
        said("tool", "3"),
    )
    async with flow(FakeEngine(["x"]), "completion", "tools", template=template) as asked:
        text = await asked.shown(*messages, tools=[ADD])
    assert text == (
        "A.\n\nB.|system:A.::::0;user:1\n\n2::::0;system:B.::::0;"
        'assistant:I add:hm:::0 c1,0,add,{"a":1,"b":2};tool:3::add:c1:0;add  a number'
    )


@pytest.mark.req("CHAT-07")
async def test_a_template_of_the_store_serves_what_it_has_a_place_for() -> None:
    capabilities: tuple[Capability, ...] = ("completion", "tools", "thinking")
    own = "{{ messages }}{{ tools }}{{ messages[0].tool_calls }}<think>"
    async with flow(FakeEngine(["x"]), *capabilities, template="{{ .Prompt }}", chat_template=own) as asked:
        assert await asked.shown("Hi") == "Hi"
        record = await asked.reply("Hi", CALL, said("tool", "1"), tools=[ADD], think=True)
    assert record["warnings"] == [
        "the TEMPLATE of this model has no place for tools, tool calls, thinking: the template in its file was used"
    ]


@pytest.mark.req("CHAT-07")
@pytest.mark.parametrize("message", [CALL, said("assistant", "1", thinking="One.")])
async def test_a_template_of_the_store_stays_where_the_files_own_can_do_no_more(message: dict[str, Any]) -> None:
    async with flow(FakeEngine(["x"]), template=MESSAGES) as asked:
        record = await asked.reply("Hi", message, "Ho", _debug_render_only=True)
    content = message["content"]
    assert record["_debug_info"]["rendered_template"] == f"<user>Hi</><assistant>{content}</><user>Ho</><assistant>"
    assert "warnings" not in record


@pytest.mark.req("CHAT-07")
async def test_a_model_without_any_template_gets_the_texts() -> None:
    async with flow(FakeEngine(["x"]), chat_template="") as asked:
        assert await asked.shown(said("system", "S."), "Hi", said("assistant", "Ho"), "And?") == "HiHoAnd?"


@pytest.mark.req("CHAT-07", "CHAT-04")
async def test_a_shown_prompt_is_one_object_and_names_what_is_ignored() -> None:
    async with flow(FakeEngine(["x"])) as asked:
        (record,) = await asked.chat(said("critic", "Hi"), _debug_render_only=True)
    assert record["message"] == {"role": "", "content": ""} and record["done"] is False
    assert record["_debug_info"] == {"rendered_template": "[critic]Hi\n[assistant]"} and len(record["warnings"]) == 1


@pytest.mark.req("CHAT-09")
async def test_options_stop_and_num_predict_are_as_in_generate() -> None:
    engine = FakeEngine(["a", "b", "c"])
    async with flow(engine, parameters={"top_k": 5}) as asked:
        assert (await asked.reply("Hi", options={"num_predict": 0}))["done_reason"] == "length"
        assert (await asked.reply("Hi", options={"stop": "c", "top_p": 0.5}))["message"]["content"] == "ab"
    assert (engine.requests[0].options.top_k, engine.requests[0].options.top_p) == (5, 0.5)


def thinking_first(request: CompletionRequest) -> list[str]:
    return ["4", "2"] if request.grammar else ["<think>", "Hm", "</think>", "not bound"]


@pytest.mark.req("CHAT-09", "CHAT-10", "CHAT-13")
async def test_thinking_comes_first_then_the_answer_bound_to_its_format() -> None:
    async with flow(FakeEngine(thinking_first), *THINKS, chat_template=THINK) as asked:
        record = await asked.reply("Hi", format={"type": "integer"}, logprobs=True)
        *pieces, _ = await asked.chat("Hi", format={"type": "integer"})
    assert record["message"] == {"role": "assistant", "content": "42", "thinking": "Hm"}
    assert [entry["token"] for entry in record["logprobs"]] == ["<think>", "Hm", "</think>", "4", "2"]
    assert [piece["message"].get("thinking", "") for piece in pieces] == ["Hm", "", ""]


@pytest.mark.req("CHAT-09")
@pytest.mark.parametrize("format", [5, "xml", {"type": 5}])
async def test_a_format_that_is_none_is_refused(format: Any) -> None:
    async with flow(FakeEngine(["x"])) as asked:
        with pytest.raises(RequestError):
            await asked.reply("Hi", format=format)


@pytest.mark.req("CHAT-10")
async def test_thinking_of_the_history_goes_to_the_template_and_leaves_texts_of_earlier_turns() -> None:
    engine = FakeEngine(["x"])
    history = (
        "1?",
        said("assistant", "<think>\nold\n</think>\n\n1.", thinking="Ones."),
        "2?",
        said("assistant", "<think>new</think>2."),
        said("tool", "3"),
    )
    async with flow(engine, *THINKS, chat_template=THINK) as asked:
        await asked.reply(*history)
    ((messages, kwargs),) = engine.rendered
    assert [message["content"] for message in messages] == ["1?", "1.", "2?", "<think>new</think>2.", "3"]
    assert messages[1]["reasoning_content"] == "Ones." and kwargs == {"enable_thinking": True}


@pytest.mark.req("CHAT-10")
async def test_think_is_true_where_it_is_absent_and_refused_where_it_can_not_be() -> None:
    engine = FakeEngine(["x"])
    async with flow(engine, *THINKS, chat_template=THINK) as asked:
        await asked.reply("Hi", think=False)
        await asked.reply("Hi", think="low")
    assert [kwargs for _, kwargs in engine.rendered] == [
        {"enable_thinking": False},
        {"enable_thinking": True, "reasoning_effort": "low"},
    ]
    async with flow(FakeEngine(["x"])) as asked:
        await asked.reply("Hi", think=False)
        with pytest.raises(RequestError, match='"m" does not support thinking'):
            await asked.reply("Hi", think=True)


@pytest.mark.req("CHAT-11")
async def test_pictures_stand_before_the_texts_of_their_messages(png: str) -> None:
    engine = FakeEngine(["x"])
    messages = (said("user", "one", images=[png]), said("assistant", "ok"), said("user", "a [img] b", images=[png, png]))
    async with flow(engine, "completion", "vision") as asked:
        assert await asked.shown(*messages) == "[user][img-0]one\n[assistant]ok\n[user][img-2]a [img-1] b\n[assistant]"
        await asked.reply(*messages)
    assert engine.prompts[-1].count("<__media__>") == 3 and len(engine.requests[-1].images) == 3


@pytest.mark.req("CHAT-11")
async def test_a_model_that_can_not_see_refuses_pictures_of_the_history_too(png: str) -> None:
    async with flow(FakeEngine(["x"])) as asked:
        with pytest.raises(RequestError, match='"m" does not support images'):
            await asked.reply(said("user", "one", images=[png]), said("assistant", "ok"), "two")


TURNS = [said("user" if number % 2 == 0 else "assistant", f"{number:03d}" + "x" * 27) for number in range(20)]


@pytest.mark.req("CHAT-12")
async def test_the_oldest_messages_leave_and_never_a_system_message_nor_the_last() -> None:
    engine = FakeEngine(["x"], num_ctx=256)
    async with flow(engine) as asked:
        record = await asked.reply(said("system", "Be brief."), *TURNS, "last?")
    (prompt,) = engine.prompts
    assert prompt.startswith("[system]Be brief.\n[assistant]015x") and prompt.endswith("[user]last?\n[assistant]")
    assert len(prompt) < 256 and record["truncated"] > 500
    assert record["warnings"] == ["the oldest 15 messages were left out to fit a context of 256 tokens"]


@pytest.mark.req("CHAT-12")
async def test_calls_leave_together_with_their_results() -> None:
    engine = FakeEngine(["x"], num_ctx=256)
    async with flow(engine, *TOOLS) as asked:
        await asked.reply("y" * 60, CALL, said("tool", "x" * 60), said("tool", "z" * 30), "a" * 60, "b" * 60)
    assert engine.prompts == [f"[user]{'a' * 60}\n[user]{'b' * 60}\n[assistant]"]


@pytest.mark.req("CHAT-12")
@pytest.mark.parametrize(
    ("messages", "fields", "error"),
    [
        (TURNS, {"truncate": False}, "the conversation has 789 tokens, the context holds 256"),
        (["x" * 300], {}, "the last message has 318 tokens, the context holds 256"),
    ],
)
async def test_what_can_not_fit_is_refused_with_both_lengths(messages: list[Any], fields: dict[str, Any], error: str) -> None:
    async with flow(FakeEngine(["x"], num_ctx=256)) as asked:
        with pytest.raises(PromptTooLong) as caught:
            await asked.reply(*messages, **fields)
    assert str(caught.value).startswith(error)


@pytest.mark.req("CHAT-12")
async def test_ten_thousand_messages_are_answered_soon() -> None:
    engine = FakeEngine(["x"], num_ctx=2048)
    messages = [said("user" if number % 2 == 0 else "assistant", f"message {number} " * 5) for number in range(10_001)]
    async with flow(engine, context_length=2048) as asked:
        started = time.process_time()
        record = await asked.reply(*messages)
    assert time.process_time() - started < 2 and record["truncated"] > 100_000
    assert 1900 < len(engine.prompts[0]) < 2048 and len(engine.rendered) < 15


@pytest.mark.req("CHAT-12", "CHAT-11")
async def test_a_picture_counts_what_it_takes(png: str) -> None:
    engine = FakeEngine(["x"], num_ctx=256)
    async with flow(engine, "completion", "vision") as asked:
        record = await asked.reply(*(said("user", f"{n}", images=[png]) for n in range(4)))
    assert len(engine.requests[-1].images) == 4 and "truncated" not in record


@pytest.mark.req("CHAT-13")
async def test_log_probabilities_come_with_their_pieces() -> None:
    async with flow(FakeEngine(["<think>", "Hm", "</think>", "Yes"]), *THINKS, chat_template=THINK) as asked:
        *pieces, _ = await asked.chat("Hi", logprobs=True)
    assert [[entry["token"] for entry in piece.get("logprobs", [])] for piece in pieces] == [
        ["<think>"],
        ["Hm"],
        ["</think>"],
        ["Yes"],
    ]


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


async def test_conversations_run_together() -> None:
    engine = FakeEngine(["a"])
    async with flow(engine) as asked:
        records = await asyncio.gather(*(asked.reply(f"{number}") for number in range(8)))
    assert [record["message"]["content"] for record in records] == ["a"] * 8


@pytest.mark.req("CHAT-12")
@pytest.mark.parametrize(
    ("messages", "fields"),
    [(["x" * 1_000_000], {}), (["y" * 100] * 5000, {"truncate": False}), (["hi"], {"tools": [ADD | {"x": "z" * 1_000_000}]})],
    ids=["one message", "many messages", "a tool"],
)
async def test_what_is_far_too_long_is_not_read_to_its_end(messages: list[str], fields: dict[str, Any]) -> None:
    read = 0

    class Reader(FakeEngine):
        async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
            nonlocal read
            read += len(text)
            return await super().tokenize(text, add_special=add_special)

    engine = Reader(["x"], num_ctx=256, template=lambda messages, _: f"{messages}{engine.tools[-1]}")
    async with flow(engine, *TOOLS) as asked:
        with pytest.raises(PromptTooLong, match=r"has at least [0-9]+ tokens, the context holds 256"):
            await asked.reply(*messages, **fields)
    assert read < 100_000


@pytest.mark.req("ANT-10")
async def test_a_conversation_that_does_not_fit_is_counted_whole(png: str) -> None:
    engine = FakeEngine(["x"], num_ctx=256)
    async with flow(engine, "completion", "vision") as asked:
        for words, images in (("Hi", []), ("word " * 5000, []), ("Hi", [png, png])):
            ask = decode_chat(encode({"model": "m", "messages": [said("user", words, images=images)]}))
            count = await asked.inference.count(ask)
            assert count == len(f"[user]{words}\n[assistant]") + len(images) * len(engine.media_marker)


def alternating(messages: Sequence[dict[str, Any]], _: dict[str, Any]) -> str:
    if any(message["role"] == "system" for message in messages[1:]):
        raise MessagesRefused("the model's chat template does not accept the messages")
    return plain_template(messages, {})


def forgetting(messages: Sequence[dict[str, Any]], _: dict[str, Any]) -> str:
    return plain_template([each for each in messages if each["role"] != "system"], {})


def hoisting(messages: Sequence[dict[str, Any]], _: dict[str, Any]) -> str:
    return plain_template(sorted(messages, key=lambda each: bool(each["role"] != "system")), {})


@pytest.mark.req("ANT-03")
@pytest.mark.parametrize("template", [alternating, forgetting, hoisting])
async def test_a_later_system_message_without_a_place_goes_into_the_users_turn(template: Template) -> None:
    said_so = [
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Hello"},
        {"role": "system", "content": "In French."},
        {"role": "user", "content": "Bye"},
    ]
    ask = decode(encode({"model": "m", "max_tokens": 9, "messages": said_so})).ask
    engine = FakeEngine(["x"], template=template)
    async with flow(engine) as asked:
        assert [event async for event in asked.inference.answer(ask)]
    assert engine.prompts == ["[user]Hi\n\nBe brief.\n[assistant]Hello\n[user]In French.\n\nBye\n[assistant]"]


@pytest.mark.req("ANT-03")
async def test_a_later_system_message_stays_where_the_template_has_a_place() -> None:
    said_so = [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}]
    engine = FakeEngine(["x"])
    async with flow(engine) as asked:
        ask = decode(encode({"model": "m", "max_tokens": 9, "messages": said_so})).ask
        assert [event async for event in asked.inference.answer(ask)]
    assert engine.prompts == ["[user]Hi\n[system]Be brief.\n[assistant]"]


@pytest.mark.req("ANT-03")
async def test_a_system_message_that_was_folded_is_not_told_to_be_ignored() -> None:
    said_so = [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}]
    ask = decode(encode({"model": "m", "max_tokens": 9, "messages": said_so})).ask
    engine = FakeEngine(["x"])
    async with flow(engine, template="<user>{{ .Prompt }}<assistant>{{ .Response }}", chat_template="") as asked:
        *_, done = [event async for event in asked.inference.answer(ask)]
    assert isinstance(done, Done) and done.warnings == []
    assert engine.prompts == ["<user>Hi\n\nBe brief.<assistant>"]


@pytest.mark.req("ANT-05")
async def test_the_length_of_what_is_far_too_long_is_above_the_context() -> None:
    ask = decode(encode({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "word " * 5000}]})).ask
    async with flow(FakeEngine(["x"], num_ctx=256)) as asked:
        with pytest.raises(PromptTooLong) as raised:
            assert [event async for event in asked.inference.answer(ask)]
    assert raised.value.num_tokens > raised.value.num_ctx
