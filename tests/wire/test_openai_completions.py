"""OpenAI's completions on the wire: raw prompts, echo, columns of log-probabilities."""

import json
from typing import Any

import pytest

from serow.engines.base import Logprob, TokenLogprob
from serow.errors import RequestError
from serow.inference.ask import Insert, Raw
from serow.inference.events import Delta, Echo, Event, Prompted
from serow.wire.openai_completions import CompletionRequest, CompletionStream, decode, whole
from tests.wire.streams import CUT, DONE, TEXT, data_of, folded, sent


def decoded(**fields: Any) -> CompletionRequest:
    return decode(json.dumps({"model": "m", "prompt": "x", **fields}).encode())


@pytest.mark.req("OAI-15")
@pytest.mark.parametrize(
    ("fields", "prompts"),
    [
        ({}, [Raw("x")]),
        ({"prompt": ""}, [Raw("")]),
        ({"prompt": ["a", "b"]}, [Raw("a"), Raw("b")]),
        ({"prompt": [5, 6]}, [Raw([5, 6])]),
        ({"prompt": [[5], [6, 7]], "n": 2}, [Raw([5]), Raw([5]), Raw([6, 7]), Raw([6, 7])]),
        ({"best_of": 2}, [Raw("x"), Raw("x")]),
        ({"echo": True, "max_tokens": 0}, [Raw("x", echo=True)]),
        ({"suffix": "y"}, [Insert("x", "y")]),
    ],
)
def test_each_prompt_is_raw_and_a_choice(fields: dict[str, Any], prompts: list[Any]) -> None:
    request = decoded(**fields)
    assert [ask.prompt for ask in request.asks] == prompts
    assert all((ask.think, ask.shift) == (False, False) for ask in request.asks)


@pytest.mark.req("OAI-15")
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt[1]"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": [True]}, "prompt[0]"),
        ({"prompt": ["a"] * 2049}, "prompt"),
        ({"prompt": [5], "suffix": "y"}, "suffix"),
        ({"stop": [5]}, "stop[0]"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_a_fault_names_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as raised:
        decoded(**fields)
    assert raised.value.param == param and raised.value.code


@pytest.mark.req("OAI-16")
def test_a_whole_answer_has_a_choice_for_each_prompt_and_counts_each_prompt_once() -> None:
    answer = whole(decoded(prompt=["a", "b"], n=2), [folded(TEXT)] * 4)
    assert answer["id"].startswith("cmpl-") and answer["object"] == "text_completion"
    assert [each["index"] for each in answer["choices"]] == [0, 1, 2, 3]
    assert answer["choices"][0] == {"text": "Hello", "index": 0, "logprobs": None, "finish_reason": "stop"}
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (44, 52)


@pytest.mark.req("OAI-16")
def test_a_stream_ends_with_the_reason_behind_an_empty_text_and_usage_is_null_before_the_last() -> None:
    *chunks, end = data_of(sent(CompletionStream(decoded(stream_options={"include_usage": True})), [*TEXT[:-1], CUT]))
    assert end == "[DONE]"
    texts = [(each["choices"][0]["text"], each["choices"][0]["finish_reason"]) for each in chunks[:-1]]
    assert texts == [("Hel", None), ("lo", None), ("", "length")]
    assert [each["usage"] is None for each in chunks] == [True, True, True, False]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["prompt_tokens"]) == ([], 22)


SKY_LOGPROBS = [None, Logprob(" sky", -1.0, [], [TokenLogprob(" sea", -0.5, [])]), Logprob(" is", -2.0, [])]
SKY: list[Event] = [
    Prompted(3),
    Echo("The sky is", ["The", " sky", " is"], SKY_LOGPROBS),
    Delta(" blue", logprobs=[Logprob(" blue", -0.1, [], [TokenLogprob(" blue", -0.1, [])])]),
    DONE,
]
COLUMNS = {
    "tokens": ["The", " sky", " is", " blue"],
    "token_logprobs": [None, -1.0, -2.0, -0.1],
    "top_logprobs": [None, {" sea": -0.5}, {}, {" blue": -0.1}],
    "text_offset": [0, 3, 7, 10],
}


@pytest.mark.req("OAI-15", "OAI-16")
def test_an_echo_comes_with_the_log_probabilities_of_the_prompt() -> None:
    request = decoded(prompt="The sky is", echo=True, logprobs=1)
    assert (request.ask.logprobs, request.ask.top_logprobs) == (True, 1)
    (choice,) = whole(request, [folded(SKY)])["choices"]
    assert (choice["text"], choice["logprobs"]) == ("The sky is blue", COLUMNS)


@pytest.mark.req("OAI-16")
def test_streamed_columns_add_up_to_the_whole_ones() -> None:
    chunks = data_of(sent(CompletionStream(decoded(echo=True, logprobs=1)), SKY))[:-1]
    parts = [each["choices"][0]["logprobs"] for each in chunks if each["choices"][0]["logprobs"]]
    assert {name: [row for part in parts for row in part[name]] for name in COLUMNS} == COLUMNS
    assert "".join(each["choices"][0]["text"] for each in chunks) == "The sky is blue"
