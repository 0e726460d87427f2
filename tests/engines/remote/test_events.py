"""What vLLM sends, as chunks (REM-03)."""

import json
import re
from typing import Any

import pytest

from serow.engines.base import CompletionRequest
from serow.engines.remote.events import LONGEST_EVENT, ChunkBuilder, EventReader
from serow.engines.remote.request import completion_body
from serow.errors import EngineError
from serow.options import Options


def _bytes_of(token: int) -> bytes:
    return bytes([token])


def _builder(**fields: Any) -> ChunkBuilder:
    request = CompletionRequest([1, 2, 3], Options(), -1, **fields)
    return ChunkBuilder(request, _bytes_of, frozenset({7}), re.compile("<x>"))


def _event(text: str, tokens: list[int] | None = None, **fields: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"text": text, "token_ids": tokens, **fields}]}).encode() + b"\n\n"


@pytest.mark.req("REM-03")
def test_events_are_read_wherever_their_pieces_split() -> None:
    data = _event("é") + b": a comment\n\n" + b"data: [DONE]\n\n"
    reader = EventReader()
    found = [event for n in range(len(data)) for event in reader.feed(data[n : n + 1])]
    assert [event.choices[0].text for event in found] == ["é"]
    assert reader.is_done


@pytest.mark.req("REM-03")
@pytest.mark.parametrize(
    "data", [b"data: " + b"x" * (LONGEST_EVENT + 1), b"data: {]\n\n", b'data: {"choices": 3}\n\n', b"data: \xff\n"]
)
def test_what_is_no_event_is_an_error_in_words(data: bytes) -> None:
    with pytest.raises(EngineError):
        EventReader().feed(data)


@pytest.mark.req("REM-03")
def test_control_tokens_are_taken_out_and_their_count_stays() -> None:
    builder = _builder()
    (event,) = EventReader().feed(_event("a<x>b", [97, 7, 98]))
    chunk = builder.step(event)
    assert chunk is not None
    assert (chunk.text, chunk.num_tokens) == ("ab", 3)
    (event,) = EventReader().feed(_event("<x>", [60, 120, 62]))  # a text that is no control token
    chunk = builder.step(event)
    assert chunk is not None
    assert chunk.text == "<x>"


@pytest.mark.req("REM-03")
def test_log_probabilities_come_with_the_text_that_they_belong_to() -> None:
    builder = _builder(logprobs=True, top_logprobs=1)
    probabilities = {"tokens": ["token_id:104", "token_id:105"], "token_logprobs": [-0.1, -0.2],
                     "top_logprobs": [{"token_id:104": -0.1, "token_id:106": -2.0}, {"token_id:105": -0.2}]}  # fmt: skip
    reader = EventReader()
    (first,) = reader.feed(_event("h", [104, 105], logprobs=probabilities))
    chunk = builder.step(first)
    assert chunk is not None
    assert [(each.token, each.logprob, each.bytes) for each in chunk.logprobs] == [("h", -0.1, [104])]
    (last,) = reader.feed(_event("", [], finish_reason="stop", stop_reason="i"))
    builder.step(last)
    end = builder.finish()
    assert [each.token for each in end.withheld] == ["i"]
    assert end.usage is not None
    assert (end.usage.stopping_word, end.usage.done_reason, end.usage.eval_count) == ("i", "stop", 2)


@pytest.mark.req("REM-03")
def test_an_answer_that_its_limit_ends_tells_what_was_held_back() -> None:
    builder = _builder(logprobs=True)
    probabilities = {"tokens": ["token_id:104"], "token_logprobs": [-0.1]}
    for event in EventReader().feed(_event("", [104], logprobs=probabilities, finish_reason="length")):
        builder.step(event)
    end = builder.finish()
    assert [each.token for each in end.logprobs] == ["h"]
    assert end.usage is not None
    assert end.usage.done_reason == "length"


@pytest.mark.req("REM-03")
def test_an_engine_that_tells_no_ids_counts_by_its_usage() -> None:
    builder = _builder()
    usage = {"prompt_tokens": 3, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 2}}
    for event in EventReader().feed(_event("a") + b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"):
        builder.step(event)
    found = builder.finish().usage
    assert found is not None
    assert (found.eval_count, found.prompt_cached_count) == (9, 2)


@pytest.mark.req("REM-03")
@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "repetition_penalty": 1.0, "stop": []}),
        ({"top_k": -1, "top_p": 0.0, "temperature": -1.0}, {"top_k": 0, "top_p": 1e-6, "temperature": 0.0}),
        ({"seed": 2**63 + 5, "presence_penalty": 9.0}, {"seed": 5, "presence_penalty": 2.0}),
        ({"stop": ("a", "b"), "logit_bias": ((3, -500.0),)}, {"stop": ["a", "b"], "logit_bias": {"3": -100.0}}),
    ],
)
def test_every_sampler_is_told_within_what_the_engine_takes(options: dict[str, Any], fields: dict[str, Any]) -> None:
    body = completion_body(CompletionRequest([1, 2], Options(**options), 5), "m", 100)
    assert {name: body[name] for name in fields} == fields


@pytest.mark.req("REM-03")
def test_a_limit_is_always_told_and_within_the_context() -> None:
    def limit(num_predict: int) -> int:
        found: int = completion_body(CompletionRequest([1, 2], Options(), num_predict), "m", 100)["max_tokens"]
        return found

    assert [limit(-1), limit(5), limit(1000)] == [98, 5, 98]


@pytest.mark.req("REM-03")
def test_a_grammar_and_log_probabilities_are_asked_for_by_the_engine_s_names() -> None:
    request = CompletionRequest([1], Options(), 5, grammar="start: /a/", logprobs=True, top_logprobs=2)
    body = completion_body(request, "m", 100)
    assert body["structured_outputs"] == {"grammar": "start: /a/"}
    assert (body["logprobs"], body["return_tokens_as_token_ids"]) == (2, True)
