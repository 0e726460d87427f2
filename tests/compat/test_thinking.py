"""Thinking beside the answer (GEN-14)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from serow.store.name import Name
from serow.store.store import Store
from tests.compat.wire import Wire, text_of
from tests.conftest import create

SUM = "What is 12 + 34?"
ANSWER = "12 + 34 = 46."
THOUGHT = "Ones: 2 + 4 + 0 = 6, write 6, carry 0.\nTens: 1 + 3 + 0 = 4, write 4, carry 0.\nSum: 46.\n"
TURN = "<|im_start|>user\n{{ .Content }}<|im_end|>\n"
THINKS_ANYWAY = (
    f"{{{{ range .Messages }}}}{TURN}{{{{ if .Thinking }}}}<think>{{{{ .Thinking }}}}</think>{{{{ end }}}}{{{{ end }}}}"
)


@pytest.mark.req("GEN-14")
@pytest.mark.parametrize("think", [None, True, "low", "medium", "high", "max"])
@pytest.mark.parametrize("stream", [True, False])
def test_thinking_and_answer_come_apart_and_without_tags(wire: Wire, think: Any, stream: bool) -> None:
    ask = wire.stream if stream else lambda *args, **fields: [wire.generate(*args, **fields)]
    records = ask("zoo-think", SUM, think=think)
    assert (text_of(records, "thinking"), text_of(records)) == (THOUGHT, ANSWER)


@pytest.mark.req("GEN-14")
def test_thinking_ends_before_the_answer_begins(wire: Wire) -> None:
    records = wire.stream("zoo-think", SUM)
    sides = ["thinking" if "thinking" in record else "response" for record in records if not record["done"]]
    assert sides == sorted(sides, reverse=True)


@pytest.mark.req("GEN-14")
def test_think_false_answers_at_once(wire: Wire) -> None:
    record = wire.generate("zoo-think", SUM, think=False)
    assert (record["response"], "thinking" in record) == (ANSWER, False)


@pytest.mark.req("GEN-14")
@pytest.mark.parametrize(
    ("think", "error"),
    [
        ("very", 'invalid think value: "very" (must be "high", "medium", "low", "max", true, or false)'),
        ("", 'invalid think value: "" (must be "high", "medium", "low", "max", true, or false)'),
        (3, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
    ],
)
def test_a_level_that_there_is_not_is_refused(wire: Wire, think: Any, error: str) -> None:
    assert wire.refusal("zoo-think", SUM, think=think) == (400, error)


@pytest.mark.req("GEN-14")
def test_a_model_that_cannot_think_refuses_to(wire: Wire) -> None:
    assert wire.refusal("smollm2:135m", SUM, think=True) == (400, '"smollm2:135m" does not support thinking')
    assert wire.generate("smollm2:135m", SUM, {"num_predict": 1}, think=False)["response"]


@pytest.mark.req("GEN-14", "GEN-08")
@pytest.mark.parametrize("think", [False, True])
def test_a_template_that_thinks_whatever_it_is_told_leaks_no_tags(wire: Wire, think: bool) -> None:
    template = THINKS_ANYWAY + "<|im_start|>assistant\n"
    record = wire.generate("zoo-think", SUM, template=template, think=think)
    assert (record["thinking"], record["response"]) == (THOUGHT, ANSWER)


@pytest.mark.req("GEN-14", "GEN-08")
@pytest.mark.parametrize(("opening", "closing"), [("Ones:", "Tens:"), ("Ones: 2 +", "Sum: 46.")])
def test_tags_of_many_tokens_are_taken_from_the_template_and_never_leak(wire: Wire, opening: str, closing: str) -> None:
    """The model's own words as tags: each comes in many pieces."""
    thinking = f"{{{{ if .Thinking }}}}{opening}{{{{ .Thinking }}}}{closing}{{{{ end }}}}"
    template = f"{{{{ range .Messages }}}}{TURN}{thinking}{{{{ end }}}}<|im_start|>assistant\n<think>\n"
    records = wire.stream("zoo-think", SUM, template=template)
    before, _, after = THOUGHT.removeprefix(opening).lstrip().partition(closing)
    assert text_of(records, "thinking") == before
    assert text_of(records) == f"{after}</think>\n\n{ANSWER}".lstrip()


@pytest.fixture
def control_tags(models: Path, zoo: Path, tmp_path: Path) -> Iterator[str]:
    """zoo-think with tags that are control tokens, as Magistral's and gpt-oss's are: an engine does not print those unasked."""
    reader = GGUFReader(zoo / "zoo-think.gguf")
    types = reader.fields["tokenizer.ggml.token_type"]
    data = bytearray((zoo / "zoo-think.gguf").read_bytes())
    for token in (6, 7):
        offset = types.parts[types.data[token]].ctypes.data - reader.data.ctypes.data
        assert data[offset] == 4, "a user-defined token"
        data[offset] = 3
    path, store, name = tmp_path / "control.gguf", Store(models), "compat-control"
    path.write_bytes(data)
    create(store, name, path)
    yield name
    store.delete(Name.parse(name))


@pytest.mark.req("GEN-14")
@pytest.mark.parametrize("format", [None, {"choice": [ANSWER, "no"]}])
def test_tags_that_are_control_tokens_are_seen(wire: Wire, control_tags: str, format: Any) -> None:
    record = wire.generate(control_tags, SUM, format=format)
    assert (record["thinking"], record["response"]) == (THOUGHT, ANSWER)
    wire.unload(control_tags)


@pytest.mark.req("GEN-14")
@pytest.mark.parametrize("stream", [True, False])
def test_a_thought_that_is_cut_stays_a_thought(wire: Wire, stream: bool) -> None:
    ask = wire.stream if stream else lambda *args, **fields: [wire.generate(*args, **fields)]
    records = ask("zoo-think", SUM, {"num_predict": 12})
    assert THOUGHT.startswith(text_of(records, "thinking"))
    assert (text_of(records), records[-1]["done_reason"], records[-1]["eval_count"]) == ("", "length", 12)


@pytest.mark.req("GEN-14")
@pytest.mark.parametrize(("budget", "thinking"), [(0, ""), (5, "Ones: "), (500, THOUGHT), (-1, THOUGHT)])
def test_a_budget_holds_the_thinking(wire: Wire, budget: int, thinking: str) -> None:
    record = wire.generate("zoo-think", SUM, {"think_budget": budget})
    assert (record.get("thinking", ""), record["response"], record["done_reason"]) == (thinking, ANSWER, "stop")


@pytest.mark.req("GEN-14", "GEN-12")
def test_a_budget_holds_under_a_format(wire: Wire) -> None:
    records = wire.stream("zoo-think", SUM, {"think_budget": 5}, format={"choice": ["46", "64"]})
    assert (text_of(records, "thinking"), text_of(records)) == ("Ones: ", "46")


@pytest.mark.req("GEN-14", "GEN-11")
def test_the_context_holds_the_thinking(wire: Wire) -> None:
    first = wire.generate("zoo-think", SUM)
    assert THOUGHT + "</think>" in wire.rendered("zoo-think", "And now?", context=first["context"])


@pytest.mark.req("GEN-14", "RES-02")
def test_thinking_counts_as_output(wire: Wire) -> None:
    with_thinking, without = (wire.generate("zoo-think", SUM, think=think)["eval_count"] for think in (True, False))
    assert with_thinking > without + 40
