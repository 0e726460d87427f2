"""OpenAI's chat on the wire: what events become."""

import json
from typing import Any

import pytest

from serow.engines.base import Logprob, TokenLogprob
from serow.errors import EngineDied
from serow.inference.events import Delta, Event, Prompted, Rendered
from serow.wire.openai_chat import ChatRequest, ChatStream, decode, whole
from tests.wire.streams import CUT, DONE, TEXT, THOUGHT, call, data_of, folded, sent

HI: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def decoded(**fields: Any) -> ChatRequest:
    return decode(json.dumps({**HI, **fields}).encode())


@pytest.mark.req("OAI-08")
def test_a_whole_answer_counts_everything_and_ends_in_one_of_three_words() -> None:
    answer = whole(decoded(), [folded(TEXT)])
    assert answer["id"].startswith("chatcmpl-") and answer["id"] != whole(decoded(), [folded(TEXT)])["id"]
    assert (answer["object"], answer["model"], answer["system_fingerprint"]) == ("chat.completion", "m", "fp_ollama")
    message = {"role": "assistant", "content": "Hello"}
    assert answer["choices"] == [{"index": 0, "message": message, "finish_reason": "stop"}]
    assert answer["usage"] == {
        "prompt_tokens": 22,
        "completion_tokens": 13,
        "total_tokens": 35,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }


@pytest.mark.req("OAI-13")
def test_a_call_that_came_to_nothing_is_content_and_no_reason() -> None:
    broken: list[Event] = [Prompted(1), *call()[:-1], Delta("<tool_call>"), DONE]
    chunks = data_of(sent(ChatStream(decoded()), broken))
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert whole(decoded(), [folded(broken)])["choices"][0]["finish_reason"] == "stop"


@pytest.mark.req("OAI-08", "OAI-13")
@pytest.mark.parametrize(("end", "reason"), [(DONE, "tool_calls"), (CUT, "length")])
def test_a_call_beats_stop_but_not_length_and_content_is_null_beside_it(end: Any, reason: str) -> None:
    (choice,) = whole(decoded(), [folded([Prompted(1), *call(0), *call(1, "now", "{}"), end])])["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == (reason, None)
    calls = choice["message"]["tool_calls"]
    assert [(each["id"], each["index"], each["type"]) for each in calls] == [
        ("call_0", 0, "function"),
        ("call_1", 1, "function"),
    ]
    assert calls[0]["function"] == {"name": "add", "arguments": '{"a": 1}'}


@pytest.mark.req("OAI-14")
def test_the_thought_has_both_of_its_names() -> None:
    message = whole(decoded(), [folded(THOUGHT)])["choices"][0]["message"]
    assert (message["reasoning"], message["reasoning_content"], message["content"]) == ("Hmm.", "Hmm.", "Hi")
    deltas = [each["choices"][0]["delta"] for each in data_of(sent(ChatStream(decoded()), THOUGHT))[:-1]]
    assert deltas[0] == {"role": "assistant", "content": "", "reasoning": "Hm", "reasoning_content": "Hm"}
    assert all(not (delta.get("content") and delta.get("reasoning")) for delta in deltas)


@pytest.mark.req("OAI-07")
def test_a_prompt_is_counted_once_for_all_of_its_choices() -> None:
    answer = whole(decoded(n=2), [folded(TEXT), folded(TEXT)])
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (22, 26)


@pytest.mark.req("OAI-09")
def test_a_stream_is_deltas_then_the_reason_then_the_end() -> None:
    *chunks, end = data_of(sent(ChatStream(decoded()), TEXT))
    assert end == "[DONE]"
    assert {(each["id"], each["created"], each["object"]) for each in chunks} == {
        (chunks[0]["id"], chunks[0]["created"], "chat.completion.chunk")
    }
    assert [each["choices"][0]["delta"] for each in chunks] == [{"role": "assistant", "content": "Hel"}, {"content": "lo"}, {}]
    assert [each["choices"][0]["finish_reason"] for each in chunks] == [None, None, "stop"]
    assert all("usage" not in each for each in chunks)


@pytest.mark.req("OAI-09")
def test_usage_comes_last_where_it_was_asked_for_and_is_null_before() -> None:
    *chunks, end = data_of(sent(ChatStream(decoded(stream_options={"include_usage": True})), TEXT))
    assert end == "[DONE]"
    assert [each["usage"] is None for each in chunks] == [True, True, True, False]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 35)
    assert all(each["choices"] for each in chunks[:-1])


@pytest.mark.req("OAI-09")
@pytest.mark.parametrize("events", [[DONE], [Prompted(1), CUT], [Delta(), DONE]])
def test_an_answer_without_text_still_begins_with_the_role(events: Any) -> None:
    chunks = data_of(sent(ChatStream(decoded()), events))[:-1]
    deltas = [each["choices"][0]["delta"] for each in chunks]
    assert [bool(delta.get("role")) for delta in deltas] == [True] + [False] * (len(deltas) - 1)
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")


@pytest.mark.req("OAI-09")
def test_a_failure_ends_the_stream_with_an_error_and_silence_is_a_comment() -> None:
    stream = ChatStream(decoded())
    sent_bytes = stream.feed((0, Delta("He"))) + stream.ping() + stream.fail(EngineDied("the engine died"))
    first, error = data_of(sent_bytes)
    assert first["choices"][0]["delta"]["content"] == "He"
    assert error["error"]["message"] == "the engine died"


@pytest.mark.req("OAI-13")
def test_a_streamed_call_has_id_and_name_in_its_first_piece_only() -> None:
    chunks = data_of(sent(ChatStream(decoded()), [Prompted(1), *call(0), *call(1, "now", "{}"), DONE]))[:-1]
    calls = [each["choices"][0]["delta"]["tool_calls"][0] for each in chunks if "tool_calls" in each["choices"][0]["delta"]]
    assert [each.get("id") for each in calls] == ["call_0", None, None, "call_1", None]
    assert [each["index"] for each in calls] == [0, 0, 0, 1, 1]
    assert "".join(each["function"]["arguments"] for each in calls[:3]) == '{"a": 1}'
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.req("OAI-07")
def test_the_streams_of_choices_are_told_apart_by_index() -> None:
    stream = ChatStream(decoded(n=2))
    pieces = [stream.feed((index, event)) for event in TEXT for index in (0, 1)]
    chunks = data_of(b"".join(pieces) + stream.finish())[:-1]
    for index in (0, 1):
        own = [each["choices"][0] for each in chunks if each["choices"][0]["index"] == index]
        assert own[0]["delta"]["role"] == "assistant" and own[-1]["finish_reason"] == "stop"
        assert "".join(each["delta"].get("content", "") for each in own) == "Hello"


@pytest.mark.req("OAI-10")
def test_log_probabilities_have_what_the_types_of_the_sdks_require() -> None:
    plain = Logprob("a", -0.5, [97])
    rich = Logprob("b", -0.1, [98], [TokenLogprob("c", -2.0, [99])])
    events: list[Event] = [Prompted(1), Delta("a", logprobs=[plain]), Delta("b", logprobs=[rich]), DONE]
    expected = [
        {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []},
        {"token": "b", "logprob": -0.1, "bytes": [98], "top_logprobs": [{"token": "c", "logprob": -2.0, "bytes": [99]}]},
    ]
    request = decoded(logprobs=True, top_logprobs=1)
    assert whole(request, [folded(events)])["choices"][0]["logprobs"] == {"content": expected, "refusal": None}
    chunks = data_of(sent(ChatStream(request), events))[:-1]
    streamed = [each["choices"][0]["logprobs"]["content"] for each in chunks if "logprobs" in each["choices"][0]]
    assert streamed == [[expected[0]], [expected[1]]]
    assert "logprobs" not in whole(decoded(top_logprobs=3), [folded(events)])["choices"][0]


@pytest.mark.req("OAI-01")
def test_warnings_stand_at_the_top_or_in_the_last_chunk() -> None:
    request = decoded(nonsense=1)
    warnings = ['unknown field "nonsense" was ignored']
    assert whole(request, [folded(TEXT)])["warnings"] == warnings
    *before, last = data_of(sent(ChatStream(request), TEXT))[:-1]
    assert last["warnings"] == warnings and all("warnings" not in each for each in before)
    *before, last = data_of(sent(ChatStream(decoded(nonsense=1, stream_options={"include_usage": True})), TEXT))[:-1]
    assert last["warnings"] == warnings and all("warnings" not in each for each in before)


@pytest.mark.req("OAI-04")
def test_a_prompt_that_is_only_rendered_is_told_at_the_top() -> None:
    request = decoded(_debug_render_only=True)
    assert request.ask.render_only
    assert whole(request, [folded([Rendered("<s>", 2)])])["_debug_info"] == {"rendered_template": "<s>", "image_count": 2}
