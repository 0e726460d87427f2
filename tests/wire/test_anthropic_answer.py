"""Anthropic's messages on the wire: what events become, whole and as a stream."""

import json
from typing import Any

import pytest

from serow.errors import (
    EngineError,
)
from serow.inference.events import Delta, Done, Event, Prompted, Usage
from serow.wire.anthropic import MessagesRequest, MessageStream, decode, whole
from tests.wire.streams import CUT, DONE, TEXT, THOUGHT, call, data_of, folded, sent

HI: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}


THINKS = {"type": "enabled", "budget_tokens": 1024}


def decoded(**fields: Any) -> MessagesRequest:
    return decode(json.dumps({**HI, **fields}).encode())


@pytest.mark.req("ANT-08")
def test_a_whole_message_has_blocks_a_reason_and_true_counts() -> None:
    message = whole(decoded(thinking=THINKS), [folded([*THOUGHT[:-1], *call(), DONE])])
    assert message["id"].startswith("msg_") and (message["type"], message["role"], message["model"]) == (
        "message",
        "assistant",
        "m",
    )
    thought, said, called = message["content"]
    assert (thought["type"], thought["thinking"], bool(thought["signature"])) == ("thinking", "Hmm.", True)
    assert said == {"type": "text", "text": "Hi"}
    assert called == {"type": "tool_use", "id": "call_0", "name": "add", "input": {"a": 1}}
    assert (message["stop_reason"], message["stop_sequence"]) == ("tool_use", None)
    assert message["usage"] == {
        "input_tokens": 18,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 13,
    }
    assert whole(decoded(), [folded([DONE])])["content"] == []


@pytest.mark.req("ANT-05", "ANT-08")
@pytest.mark.parametrize(
    ("done", "reason", "word"),
    [
        (DONE, "end_turn", None),
        (CUT, "max_tokens", None),
        (Done(reason="length", is_context_full=True), "model_context_window_exceeded", None),
        (Done(reason="stop", stopping_word="zz"), "stop_sequence", "zz"),
        (Done(reason="stop", stopping_word="other"), "end_turn", None),
    ],
)
def test_the_reason_says_what_ended_the_message(done: Done, reason: str, word: str | None) -> None:
    request = decoded(stop_sequences=["zz"])
    message = whole(request, [folded([Delta("x"), done])])
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, word)
    delta = data_of(sent(MessageStream(request, "r"), [Prompted(1), Delta("x"), done]))[-2]
    assert delta["delta"] == {"stop_reason": reason, "stop_sequence": word}


def kinds(events: list[Any]) -> list[str]:
    return [each["type"] for each in events if each["type"] != "ping"]


@pytest.mark.req("ANT-09")
def test_a_stream_begins_fills_and_ends_each_block() -> None:
    events = data_of(sent(MessageStream(decoded(thinking=THINKS), "r"), [*THOUGHT[:-1], *call(), DONE]))
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert [kind for n, kind in enumerate(kinds(events)) if n == 0 or kind != kinds(events)[n - 1]] == [
        "message_start",
        *block * 3,
        "message_delta",
        "message_stop",
    ]
    assert events[1]["type"] == "ping"
    assert [each["index"] for each in events if each["type"] == "content_block_start"] == [0, 1, 2]
    start = events[0]["message"]
    assert (start["content"], start["stop_reason"], start["stop_sequence"], start["usage"]["output_tokens"]) == (
        [],
        None,
        None,
        0,
    )


@pytest.mark.req("ANT-09")
def test_deltas_add_up_to_the_blocks_of_the_whole_message() -> None:
    events = data_of(sent(MessageStream(decoded(thinking=THINKS), "r"), [*THOUGHT[:-1], *call(), DONE]))
    deltas = [each["delta"] for each in events if each["type"] == "content_block_delta"]
    joined = {key: "".join(delta.get(key, "") for delta in deltas) for key in ("thinking", "text", "partial_json", "signature")}
    thought, said, called = whole(decoded(thinking=THINKS), [folded([*THOUGHT[:-1], *call(), DONE])])["content"]
    assert (joined["thinking"], joined["text"]) == (thought["thinking"], said["text"])
    assert (json.loads(joined["partial_json"]), joined["signature"]) == (called["input"], thought["signature"])
    assert [delta["type"] for delta in deltas] == [
        *("thinking_delta", "thinking_delta", "signature_delta", "text_delta", "input_json_delta", "input_json_delta")
    ]


@pytest.mark.req("ANT-07")
def test_a_thought_that_nobody_asked_for_is_left_out() -> None:
    assert [each["type"] for each in whole(decoded(), [folded(THOUGHT)])["content"]] == ["text"]
    events = data_of(sent(MessageStream(decoded(), "r"), THOUGHT))
    assert [each["content_block"]["type"] for each in events if each["type"] == "content_block_start"] == ["text"]


@pytest.mark.req("ANT-08", "ANT-09")
def test_a_call_that_came_to_nothing_is_no_use_of_a_tool() -> None:
    broken: list[Event] = [Prompted(1), *call()[:-1], Delta("<tool_call>"), DONE]
    events = data_of(sent(MessageStream(decoded(), "r"), broken))
    assert events[-2]["delta"]["stop_reason"] == "end_turn" == whole(decoded(), [folded(broken)])["stop_reason"]
    assert [each["index"] for each in events if each["type"] == "content_block_stop"] == [0, 1]


@pytest.mark.req("ANT-09")
def test_two_calls_are_two_blocks_even_side_by_side() -> None:
    events = data_of(sent(MessageStream(decoded(), "r"), [Prompted(1), *call(0), *call(1), DONE]))
    starts = [each["content_block"] for each in events if each["type"] == "content_block_start"]
    assert [(each["id"], each["input"]) for each in starts] == [("call_0", {}), ("call_1", {})]


@pytest.mark.req("ANT-09")
def test_nothing_is_sent_before_the_first_piece_and_a_failure_is_an_error_event() -> None:
    stream = MessageStream(decoded(), "req_1")
    assert stream.feed((0, Prompted(3))) == b""
    assert data_of(stream.ping()) == [{"type": "ping"}]
    events = data_of(stream.feed((0, Delta("x"))) + stream.fail(EngineError("it died")))
    assert events[-1] == {"type": "error", "error": {"type": "api_error", "message": "it died"}, "request_id": "req_1"}


@pytest.mark.req("ANT-09")
@pytest.mark.parametrize("events", [[Prompted(22), DONE], TEXT])
def test_input_tokens_are_the_same_at_both_ends(events: list[Event]) -> None:
    usage = Usage(prompt_eval_count=22, prompt_cached_count=20, eval_count=1)
    ends = [Prompted(22, prompt_cached_count=20), *events[1:-1], Done(reason="stop", usage=usage)]
    found = data_of(sent(MessageStream(decoded(), "r"), ends))
    assert found[0]["message"]["usage"]["input_tokens"] == found[-2]["usage"]["input_tokens"] == 2
