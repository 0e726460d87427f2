"""The same text for the same seed, and prompts that are read only once."""

import pytest

from tests.compat.wire import Wire, text_of, together

SUM = "What is 12 + 34?"
SURPRISE = {"zoo-think": 8.0, "smollm2:135m": 1.2}  # temperatures at which they improvise
SAMPLED = {"temperature": 1.2, "num_predict": 25, "top_k": 0, "top_p": 1.0}


@pytest.mark.req("GEN-06", "RES-03")
@pytest.mark.parametrize("model", ["zoo-think", "smollm2:135m"])
def test_the_same_seed_gives_the_same_text(wire: Wire, model: str) -> None:
    """Also when the second time finds the prompt in the cache."""
    options = [{**SAMPLED, "temperature": SURPRISE[model], "seed": seed} for seed in (5, 5, 6)]
    first, again, other = (wire.generate(model, "Tell me more.", each, think=False)["response"] for each in options)
    assert first == again != other


@pytest.mark.req("GEN-06")
def test_without_a_seed_texts_differ(wire: Wire) -> None:
    options = {**SAMPLED, "temperature": SURPRISE["zoo-think"]}
    texts = {wire.generate("zoo-think", "Tell me more.", options, think=False)["response"] for _ in range(3)}
    assert len(texts) > 1


@pytest.mark.req("GEN-06", "LIFE-02")
def test_deterministic_holds_under_load(wire: Wire) -> None:
    options = {**SAMPLED, "seed": 5, "deterministic": True}

    def ask() -> str:
        record = wire.generate("smollm2:135m", "Tell me more.", options)
        assert record["prompt_cached_count"] == 0
        return str(record["response"])

    def load() -> str:
        return str(wire.generate("smollm2:135m", "A story, please.", {**SAMPLED, "num_predict": 30})["response"])

    alone = ask()
    among_others = together(load, ask, load, ask, load)
    assert among_others[1] == among_others[3] == alone


@pytest.mark.req("RES-02")
def test_a_beginning_that_was_read_is_not_read_again(wire: Wire) -> None:
    beginning = "The rain falls on the roof of the house. " * 8
    first = wire.generate("zoo-think", beginning + "What is 1 + 2?", {"num_predict": 1})
    second = wire.generate("zoo-think", beginning + "And what is 5 + 6?", {"num_predict": 1})
    common = first["prompt_eval_count"] - 20
    assert second["prompt_cached_count"] > common > first["prompt_cached_count"]


@pytest.mark.req("GEN-11", "RES-02")
def test_conversations_that_take_turns_keep_their_caches(wire: Wire) -> None:
    starts = [f"{topic} " * 30 + SUM for topic in ("One", "Two", "Three", "Four")]
    contexts = [wire.generate("zoo-think", start, {"num_predict": 8})["context"] for start in starts]
    for _ in range(2):
        for number, context in enumerate(contexts):
            record = wire.generate("zoo-think", "And now?", {"num_predict": 8}, context=context)
            assert record["prompt_cached_count"] >= len(context) - 2
            assert record["context"][: len(context)] == context
            contexts[number] = record["context"]


@pytest.mark.req("GEN-04", "LIFE-02")
def test_answers_that_run_together_do_not_mix(wire: Wire) -> None:
    sums = [(12 + number, 30 + number) for number in range(8)]
    calls = [lambda a=a, b=b: wire.stream("zoo-think", f"What is {a} + {b}?") for a, b in sums]
    assert [text_of(records) for records in together(*calls)] == [f"{a} + {b} = {a + b}." for a, b in sums]
