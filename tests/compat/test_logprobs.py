"""Log-probabilities (GEN-17)."""

import math
from typing import Any

import pytest

from tests.compat.wire import Wire

SUM = "What is 12 + 34?"


def entries(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for record in records for entry in record.get("logprobs", [])]


@pytest.mark.req("GEN-17", "GEN-14")
@pytest.mark.parametrize(
    "fields", [{}, {"think": False}, {"format": {"choice": ["yes", "no"]}}, {"format": {"choice": ["yes"]}, "think": False}]
)
def test_every_sampled_token_has_a_record_streamed_or_not(wire: Wire, fields: dict[str, Any]) -> None:
    streamed = wire.stream("zoo-think", SUM, logprobs=True, **fields)
    whole = wire.generate("zoo-think", SUM, logprobs=True, **fields)
    assert len(entries(streamed)) == streamed[-1]["eval_count"] - 1, "all but the end token, which is no text"
    assert [entry["token"] for entry in entries(streamed)] == [entry["token"] for entry in whole["logprobs"]]
    assert "logprobs" not in streamed[-1]


@pytest.mark.req("GEN-17", "GEN-14")
@pytest.mark.parametrize("fields", [{}, {"format": {"choice": ["46", "64"]}}])
def test_the_tags_around_thinking_have_records_without_text(wire: Wire, fields: dict[str, Any]) -> None:
    records = wire.stream("zoo-think", SUM, logprobs=True, **fields)
    texts = {
        entry["token"]: record["response"] + record.get("thinking", "")
        for record in records
        for entry in record.get("logprobs", [])
    }
    assert (texts["<think>"], texts["</think>"]) == ("", "")


@pytest.mark.req("GEN-17")
def test_a_stream_has_a_record_a_token(wire: Wire) -> None:
    records = wire.stream("zoo-think", SUM, think=False, logprobs=True)
    assert all(len(record["logprobs"]) == 1 for record in records[:-1])
    assert [record["logprobs"][0]["token"] for record in records[:-1]] == [record["response"] for record in records[:-1]]


@pytest.mark.req("GEN-17")
@pytest.mark.parametrize("top", [0, 1, 5, 20])
def test_alternatives_are_as_many_as_asked_for_and_sorted(wire: Wire, top: int) -> None:
    for entry in wire.generate("zoo-think", SUM, think=False, logprobs=True, top_logprobs=top)["logprobs"]:
        alternatives = entry.get("top_logprobs", [])
        assert len(alternatives) == top
        values = [each["logprob"] for each in alternatives]
        assert values == sorted(values, reverse=True)
        assert all(math.isfinite(value) and value <= 1e-6 for value in [entry["logprob"], *values])
        if top:
            assert (entry["token"], entry["logprob"]) == (alternatives[0]["token"], values[0]), "greedy takes the likeliest"


@pytest.mark.req("GEN-17")
def test_log_probabilities_are_those_before_sampling(wire: Wire) -> None:
    hot, cold = (
        wire.generate("zoo-think", SUM, {"temperature": temperature, "top_k": 1}, think=False, logprobs=True)["logprobs"]
        for temperature in (2.0, 0.1)
    )
    assert [entry["logprob"] for entry in hot] == pytest.approx([entry["logprob"] for entry in cold], abs=1e-3)


@pytest.mark.req("GEN-17", "GEN-12")
def test_a_constrained_token_tells_what_the_model_thought_of_it(wire: Wire) -> None:
    format = {"choice": ["zzz"]}
    entry, *_ = wire.generate("zoo-think", SUM, think=False, logprobs=True, top_logprobs=3, format=format)["logprobs"]
    assert entry["logprob"] < entry["top_logprobs"][-1]["logprob"]


@pytest.mark.req("GEN-17")
def test_bytes_are_those_of_the_token(wire: Wire) -> None:
    for entry in wire.generate("zoo-think", SUM, logprobs=True, top_logprobs=2)["logprobs"]:
        for each in (entry, *entry["top_logprobs"]):
            assert bytes(each["bytes"]).decode(errors="replace") == each["token"]


@pytest.mark.req("GEN-17")
def test_a_character_of_several_tokens_has_one_record_with_all_its_bytes(wire: Wire) -> None:
    """The known gap of the contract: the engine tells of the last of them only."""
    record = wire.generate("zoo-think", SUM, think=False, logprobs=True, top_logprobs=2, format={"choice": ["a é 😂 日 b"]})
    assert b"".join(bytes(entry["bytes"]) for entry in record["logprobs"]).decode() == record["response"] == "a é 😂 日 b"
    assert len(record["logprobs"]) < record["eval_count"] - 1


@pytest.mark.req("GEN-17", "GEN-07")
@pytest.mark.parametrize("stop", ["4 and more", "46. The end"])
def test_a_token_that_was_held_back_for_a_stop_string_tells_its_own_bytes(wire: Wire, stop: str) -> None:
    format = {"choice": ["4 and 46. Then"]}
    record = wire.generate("zoo-think", SUM, {"stop": [stop]}, think=False, logprobs=True, format=format)
    assert b"".join(bytes(entry["bytes"]) for entry in record["logprobs"]).decode() == record["response"] == "4 and 46. Then"


@pytest.mark.req("GEN-17")
def test_alternatives_without_logprobs_are_ignored(wire: Wire) -> None:
    assert "logprobs" not in wire.generate("zoo-think", SUM, {"num_predict": 2}, top_logprobs=5)


@pytest.mark.req("GEN-17")
@pytest.mark.parametrize("top", [-1, 21])
def test_too_many_alternatives_are_refused(wire: Wire, top: int) -> None:
    expected = (400, "top_logprobs must be between 0 and 20")
    assert wire.refusal("zoo-think", SUM, logprobs=True, top_logprobs=top) == expected
