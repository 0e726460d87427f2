"""What Serow makes of a real vLLM's answers (REM-09): seen on one, and replayed where there is none."""

import json
import math
from typing import Any

import pytest

from tests.compat.vllm.door import Door

pytestmark = pytest.mark.req("REM-09")
_QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


async def test_a_text_is_the_same_whole_and_streamed(door: Door) -> None:
    (whole,) = await door.records("/api/generate", prompt="The sky is", raw=True, stream=False)
    *pieces, last = await door.records("/api/generate", prompt="The sky is", raw=True)
    assert whole["response"] == "".join(each["response"] for each in pieces)
    assert (whole["done_reason"], whole["eval_count"]) == (last["done_reason"], last["eval_count"]) == ("length", 12)
    assert whole["prompt_eval_count"] == 3


async def test_a_conversation_is_answered(door: Door) -> None:
    (found,) = await door.records("/api/chat", messages=_QUESTION, stream=False)
    assert "Paris" in found["message"]["content"]
    assert "<|" not in found["message"]["content"]


async def test_a_text_ends_at_its_own_end_and_at_a_stop_string(door: Door) -> None:
    (found,) = await door.records("/api/chat", messages=_QUESTION, stream=False, options={"num_predict": 60})
    assert found["done_reason"] == "stop"
    (cut,) = await door.records("/api/chat", messages=_QUESTION, stream=False, options={"stop": ["Paris"]})
    assert cut["message"]["content"] == found["message"]["content"].partition("Paris")[0]
    assert cut["done_reason"] == "stop"


async def test_a_format_holds(door: Door) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"],
              "additionalProperties": False}  # fmt: skip
    (found,) = await door.records("/api/chat", messages=_QUESTION, format=schema, stream=False, options={"num_predict": 40})
    assert set(json.loads(found["message"]["content"])) == {"city"}
    assert found.get("format_valid") is not False


async def test_log_probabilities_have_the_text_s_own_bytes(door: Door) -> None:
    (found,) = await door.records("/api/generate", prompt="Ein schönes", raw=True, stream=False, logprobs=True, top_logprobs=2)
    told = found["logprobs"]
    assert bytes(byte for each in told for byte in each["bytes"]).decode("utf-8", "replace") == found["response"]
    assert all(each["logprob"] <= 0 and len(each["top_logprobs"]) == 2 for each in told)
    assert all(each["logprob"] == pytest.approx(max(_values(each)), abs=1e-3) for each in told)  # the likeliest was taken


def _values(record: dict[str, Any]) -> list[float]:
    values = [each["logprob"] for each in record["top_logprobs"]]
    assert all(map(math.isfinite, values))
    return values


async def test_what_is_too_long_for_the_engine_is_refused_before_it_is_asked(door: Door) -> None:
    status, text = await door.text("/api/chat", {"model": "m", "messages": _QUESTION, "options": {"num_ctx": 100_000}})
    assert (status, "holds 1024 tokens" in text) == (400, True)
