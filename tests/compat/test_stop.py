"""Where a stop string ends an answer (GEN-07)."""

import pytest

from tests.compat.wire import Wire, text_of

SUM = "What is 12 + 34?"


@pytest.mark.req("GEN-07")
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("stop", "response"),
    [
        ("46", "12 + 34 = "),
        (["= 4", "never"], "12 + 34 "),
        (["34 = 46"], "12 + "),
        (["", "", "34"], "12 + "),
        (["12"], ""),
        (["4", "34 ="], "12 + 3"),
        (["nowhere"], "12 + 34 = 46."),
        ([""], "12 + 34 = 46."),
        (["46. And"], "12 + 34 = 46."),
    ],
)
def test_the_text_ends_before_the_stop_string_in_however_many_pieces_it_comes(
    wire: Wire, stop: object, response: str, stream: bool
) -> None:
    ask = wire.stream if stream else lambda *args, **fields: [wire.generate(*args, **fields)]
    records = ask("zoo-think", SUM, {"stop": stop}, think=False)
    assert (text_of(records), records[-1]["done_reason"]) == (response, "stop")


@pytest.mark.req("GEN-07", "GEN-14")
@pytest.mark.parametrize(
    ("stop", "end"),
    [
        ("carry 0.\nTens", "write 6, "),
        (["Sum: 46"], "carry 0.\n"),
        ("46.\n</think>\n\n12", "Sum: "),
        ("</think>", "Sum: 46.\n"),
    ],
)
def test_a_stop_string_holds_in_the_thinking_too(wire: Wire, stop: object, end: str) -> None:
    records = wire.stream("zoo-think", SUM, {"stop": stop})
    assert (text_of(records, "thinking")[-len(end) :], text_of(records)) == (end, "")
    assert records[-1]["done_reason"] == "stop"


@pytest.mark.req("GEN-07", "GEN-12")
@pytest.mark.parametrize(("stop", "thinking", "response"), [("Tens", "carry 0.\n", ""), ("tail", "Sum: 46.\n", "yes, de")])
def test_a_stop_string_holds_with_a_format_and_what_it_broke_is_flagged(
    wire: Wire, stop: str, thinking: str, response: str
) -> None:
    record = wire.generate("zoo-think", SUM, {"stop": [stop]}, format={"choice": ["yes, detailed"]})
    assert (record["thinking"][-9:], record["response"]) == (thinking, response)
    assert (record["done_reason"], record["format_valid"]) == ("stop", False)


@pytest.mark.req("GEN-07", "GEN-17")
def test_log_probabilities_end_with_the_text(wire: Wire) -> None:
    record = wire.generate("zoo-think", SUM, {"stop": ["4 = 46"]}, think=False, logprobs=True)
    assert record["response"] == "12 + 3"
    assert "".join(each["token"] for each in record["logprobs"]) == "12 + 3"


HI = "<|im_start|>user\nHi<|im_end|>\n"  # smollm2 goes on with <|im_start|>, "assistant" and a line


@pytest.mark.req("GEN-07")
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("stop", "response", "eval_count"),
    [
        (["<|im_start|>"], "", 1),
        (["never", "<|im_start|>"], "", 1),
        ("<|im_start|>assistant", "", 3),
        (["<|im_start|>assistant\n"], "", 4),
        (["istant\n"], "ass", 4),
    ],
)
def test_a_stop_string_may_begin_with_a_special_token(
    wire: Wire, stop: object, response: str, eval_count: int, stream: bool
) -> None:
    ask = wire.stream if stream else lambda *args, **fields: [wire.generate(*args, **fields)]
    records = ask("smollm2:135m", HI, {"stop": stop, "num_predict": 8}, raw=True)
    assert (text_of(records), records[-1]["done_reason"]) == (response, "stop")
    assert records[-1]["eval_count"] == eval_count


@pytest.mark.req("GEN-07")
@pytest.mark.parametrize("stop", [[], ["<|im_start|>nobody"], ["nobody<|im_start|>", "<|im_end|>"]])
def test_a_control_token_is_no_part_of_an_answer_wherever_it_is_cut(wire: Wire, stop: list[str]) -> None:
    before = ""
    for num_predict in range(1, 6):
        record = wire.generate("smollm2:135m", HI, {"num_predict": num_predict, "stop": stop}, raw=True)
        assert record["response"].startswith(before)
        before = record["response"]
        assert (record["done_reason"], record["eval_count"]) == ("length", num_predict)
    assert before.startswith("assistant\n")


@pytest.mark.req("GEN-07", "GEN-17")
def test_a_control_token_at_the_limit_has_its_log_probability(wire: Wire) -> None:
    record = wire.generate("smollm2:135m", HI, {"num_predict": 1}, raw=True, logprobs=True)
    assert (record["response"], len(record["logprobs"])) == ("", 1)
