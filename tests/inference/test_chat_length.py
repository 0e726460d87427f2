"""Conversations that are longer than the context."""

import time
from typing import Any

import pytest

from serow.errors import PromptTooLong
from serow.wire.anthropic import decode
from serow.wire.json import encode
from serow.wire.ollama_chat import decode_chat
from tests.inference.messages import ADD, CALL, TOOLS, said
from tests.support.engine import FakeEngine
from tests.support.flow import flow

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


@pytest.mark.req("ANT-05")
async def test_the_length_of_what_is_far_too_long_is_above_the_context() -> None:
    ask = decode(encode({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "word " * 5000}]})).ask
    async with flow(FakeEngine(["x"], num_ctx=256)) as asked:
        with pytest.raises(PromptTooLong) as raised:
            assert [event async for event in asked.inference.answer(ask)]
    assert raised.value.num_tokens > raised.value.num_ctx
