"""Which template makes the prompt of a conversation, and how an answer that is begun goes on."""

from collections.abc import Sequence
from typing import Any

import pytest

from serow.errors import MessagesRefused, RequestError
from serow.inference.events import Done
from serow.store.model import Capability
from serow.wire.anthropic import decode
from serow.wire.json import encode
from tests.inference.messages import ADD, CALL, MESSAGES, THINK, THINKS, TOOLS, said
from tests.support.engine import FakeEngine, Template, plain_template
from tests.support.flow import flow


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
