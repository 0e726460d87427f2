"""From the request to what the model reads: templates, raw, fill in the middle, context, a full context (GEN-08 to GEN-11,
GEN-15, GEN-16)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serow.store.name import Name
from serow.store.store import Store
from tests.compat.wire import ENDLESS, Wire
from tests.conftest import create, pulled

SUM = "What is 12 + 34?"
CHAT: dict[str, Any] = {"system": "Hi.", "context": [1, 2], "images": ["none of its business"]}
TURN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
NO_END = {"logit_bias": {"2": -1e9, "7": -1e9, "310": -1e9}}  # the end, </think> and "Sum"


@pytest.mark.req("GEN-08")
def test_a_jinja_template_places_system_and_prompt(wire: Wire) -> None:
    system = "<|im_start|>system\nBe brief.<|im_end|>\n"
    assert wire.rendered("zoo-think", SUM) == TURN.format(SUM)
    assert wire.rendered("zoo-think", SUM, system="Be brief.") == system + TURN.format(SUM)
    assert wire.rendered("zoo-think", SUM, think=False) == TURN.format(SUM) + "<think>\n\n</think>\n\n"


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(
    ("template", "fields", "prompt"),
    [
        ("{{ .System }}|{{ .Prompt }}", {}, "Be kind.|Hi"),
        ("{{ .System }}|{{ .Prompt }}", {"system": "Be brief."}, "Be brief.|Hi"),
        ("{{ .Prompt }}!{{ .Response }}never", {}, "Hi!"),
        ("{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}{{ .Prompt }}", {}, "<system>Be kind.<user>Hi<no value>"),
        ("{{ .Think }} {{ .ThinkLevel }} {{ .IsThinkSet }}", {"think": "low"}, "true low true"),
        ("{{ .Think }} {{ .ThinkLevel }} {{ .IsThinkSet }}", {"think": True}, "true medium true"),
        ("{{ .Think }} {{ .ThinkLevel }} {{ .IsThinkSet }}", {"think": False}, "false  true"),
        ("{{ json .Prompt }}{{ .Unknown }}", {}, '"Hi"<no value>'),
        ("{{- if .Suffix }}{{ .Suffix }}{{ else }}{{ .Prompt | printf `%q` }}{{ end -}} ", {}, '"Hi"'),
    ],
)
def test_a_template_of_the_request_overrides_the_models(wire: Wire, template: str, fields: dict[str, Any], prompt: str) -> None:
    with wire.made("compat-system", system="Be kind.", template="no: {{ .Prompt }}") as name:
        assert wire.rendered(name, "Hi", template=template, **fields) == prompt


@pytest.mark.req("GEN-08", "RES-05")
@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{{ .Prompt", ":1"),
        ("\n\n{{ nobody .Prompt }}", ":3"),
        ("{{ index .Messages 99 }}", "index out of range"),
        ("{{ .Prompt.Nothing }}", ":1"),
        ("{{ define `a` }}{{ template `a` }}{{ end }}{{ template `a` }}", ""),
    ],
)
def test_a_template_that_fails_is_the_requests_fault(wire: Wire, template: str, named: str) -> None:
    status, error = wire.refusal("zoo-think", SUM, template=template)
    assert (status, named in error) == (400, True), error


TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}", "<user>a<assistant>b<user>c\n\nd"),
        ("<{{ .Prompt }}|{{ .Response }}>", "<a|b><c\n\nd|"),
    ],
)
def test_messages_of_one_role_that_follow_one_another_are_one(wire: Wire, template: str, prompt: str) -> None:
    with wire.made("compat-turns", template=template, messages=TURNS) as name:
        assert wire.rendered(name, "d") == prompt


@pytest.mark.req("GEN-11")
@pytest.mark.parametrize("template", ["{{ range .Messages }}[{{ .Content }}]{{ end }}", "[{{ .Prompt }}]{{ .Response }}", None])
def test_the_models_messages_do_not_come_again_behind_a_context(wire: Wire, template: str | None) -> None:
    recipe = {"template": template} if template else {}
    messages = [{"role": "user", "content": "Ask one."}, {"role": "assistant", "content": "So."}]
    with wire.made("compat-begun", messages=messages, **recipe) as name:
        first = wire.generate(name, "Ask 1.", {"num_predict": 2}, think=False)
        rendered = wire.rendered(name, "Ask two.", think=False, context=first["context"])
        assert (rendered.count("Ask one."), rendered.count("Ask two.")) == (1, 1)


@pytest.mark.req("GEN-09")
def test_a_raw_prompt_goes_to_the_model_as_it_is(wire: Wire) -> None:
    prompt = " \n12 + 34 ="
    assert wire.rendered("zoo-think", prompt, raw=True) == prompt
    record = wire.generate("zoo-think", "12 + 34 =", {"num_predict": 4}, raw=True)
    assert (record["response"].strip()[:2], "context" in record) == ("46", False)


@pytest.mark.req("GEN-09")
@pytest.mark.parametrize("field", [{"template": "{{ .Prompt }}"}, {"system": "Be brief."}, {"context": [1, 2]}])
def test_raw_takes_nothing_beside_the_prompt(wire: Wire, field: dict[str, Any]) -> None:
    assert wire.refusal("zoo-think", SUM, raw=True, **field) == (
        400,
        "raw mode does not support template, system, or context",
    )


@pytest.mark.req("GEN-09", "GEN-14")
@pytest.mark.parametrize("begun", ["", "<think>", "<think>\n", "<think>\nOnes: 2"])
def test_the_answer_to_a_raw_prompt_is_parsed_for_thinking_wherever_it_began(wire: Wire, begun: str) -> None:
    record = wire.generate("zoo-think", TURN.format(SUM) + begun, raw=True)
    assert (record["thinking"][-9:], record["response"]) == ("Sum: 46.\n", "12 + 34 = 46.")


@pytest.mark.req("GEN-09", "GEN-14")
def test_the_answer_to_a_raw_prompt_is_left_alone_when_think_is_false(wire: Wire) -> None:
    record = wire.generate("zoo-think", TURN.format(SUM), raw=True, think=False)
    assert (record["response"][:13], "thinking" in record) == ("<think>\nOnes:", False)


@pytest.mark.req("GEN-10")
@pytest.mark.parametrize(
    ("prompt", "suffix", "middle"),
    [("def add(x, y):\n    return ", "\n", "x + y"), ("def sub(a, b):\n    return ", "\n", "a - b")],
)
def test_the_models_own_tokens_fill_in_the_middle(wire: Wire, prompt: str, suffix: str, middle: str) -> None:
    record = wire.generate("zoo-think", prompt, suffix=suffix)
    assert (record["response"], "thinking" in record) == (middle, False)


@pytest.mark.req("GEN-03", "GEN-10")
def test_a_middle_with_nothing_before_it_is_no_load(wire: Wire) -> None:
    record = wire.generate("zoo-think", "", suffix="\n    return x + y")
    assert (bool(record["response"]), record["done_reason"]) == (True, "stop")


@pytest.mark.req("GEN-03", "GEN-09")
def test_a_raw_suffix_alone_is_a_load(wire: Wire) -> None:
    assert wire.generate("zoo-think", "", suffix="x", raw=True)["done_reason"] == "load"


@pytest.mark.req("GEN-10")
def test_fill_in_the_middle_leaves_the_chat_out_and_says_so(wire: Wire) -> None:
    record = wire.generate("zoo-think", "def add(x, y):\n    return ", suffix="\n", **CHAT)
    assert record["response"] == "x + y"
    assert [warning.split()[0] for warning in record["warnings"]] == ['"context"', '"images"', '"system"']
    assert record["prompt_eval_count"] == 14


@pytest.mark.req("GEN-09", "GEN-10")
def test_a_raw_prompt_has_no_middle(wire: Wire) -> None:
    record = wire.generate("zoo-think", "12 + 34 =", {"num_predict": 3}, raw=True, think=False, suffix="\n")
    assert (record["response"], record["prompt_eval_count"]) == (" 46", 7)
    assert record["warnings"] == ['"suffix" was ignored: a raw prompt goes to the model as it is']


@pytest.mark.req("GEN-10")
def test_an_insert_template_of_the_model_goes_before_its_tokens(wire: Wire) -> None:
    template = "{{ if .Suffix }}[{{ .Prompt }}|{{ .Suffix }}]{{ else }}{{ .Prompt }}{{ end }}"
    with wire.made("compat-insert", template=template, system="Never.") as name:
        assert wire.rendered(name, "a", suffix="b") == "[a|b]"


@pytest.mark.req("GEN-10")
@pytest.mark.parametrize("name", ["smollm2:135m", "zoo-vision"])
def test_a_model_without_a_middle_refuses_a_suffix(wire: Wire, name: str) -> None:
    assert wire.refusal(name, "a", suffix="b") == (400, f'"{name}" does not support insert')


@pytest.fixture(scope="module")
def coder(wire: Wire, models: Path) -> Iterator[str]:
    """Qwen2.5-Coder, in the store of the server that all tests share."""
    if not os.environ.get("SEROW_TEST_LARGE"):
        pytest.skip("needs a large model: set SEROW_TEST_LARGE=1")
    store, name = Store(models), "qwen2.5-coder:0.5b"
    create(store, name, pulled(name))
    yield name
    wire.unload(name)
    store.delete(Name.parse(name))


@pytest.mark.large
@pytest.mark.req("GEN-10")
def test_a_coder_fills_in_the_middle(wire: Wire, coder: str) -> None:
    record = wire.generate(coder, "def is_even(n):\n    return ", {"num_predict": 12}, suffix="\n\nprint(is_even(4))\n")
    assert record["response"].strip().startswith("n % 2 == 0")


@pytest.mark.req("GEN-11")
def test_the_context_is_the_whole_prompt_and_the_whole_output(wire: Wire) -> None:
    record = wire.generate("zoo-think", SUM)
    assert len(record["context"]) == record["prompt_eval_count"] + record["eval_count"] - 1, "all but the end token"
    told = wire.rendered("zoo-think", "!", template="{{ .Prompt }}", context=record["context"])
    assert told == TURN.format(SUM) + f"<think>\n{record['thinking']}</think>\n\n{record['response']}!"


@pytest.mark.req("GEN-11")
@pytest.mark.parametrize("model", ["zoo-think", "smollm2:135m"])
def test_a_context_carries_the_conversation_on(wire: Wire, model: str) -> None:
    first = wire.generate(model, SUM, {"num_predict": 8})
    rendered = wire.rendered(model, "And now?", context=first["context"])
    assert rendered.endswith("<|im_end|>\n" + TURN.format("And now?")), "the end of the answer before, then the new turn"
    assert (rendered.count("<|im_start|>system"), rendered.count(SUM)) == (model.startswith("smol"), 1)
    second = wire.generate(model, "And now?", {"num_predict": 8}, context=first["context"])
    assert second["context"][: len(first["context"])] == first["context"]
    assert second["prompt_cached_count"] >= len(first["context"]) - 2


@pytest.mark.req("GEN-11")
def test_a_context_goes_before_what_a_template_makes(wire: Wire) -> None:
    first = wire.generate("zoo-think", "12 + 34 =", {"num_predict": 3}, template="{{ .Prompt }}")
    assert wire.rendered("zoo-think", "Hi", template="[{{ .Prompt }}]", context=first["context"]).endswith("46[Hi]")


@pytest.mark.req("GEN-11")
@pytest.mark.parametrize("token", [-1, 768, 10**30])
def test_a_token_that_the_model_does_not_have_is_refused(wire: Wire, token: int) -> None:
    status, error = wire.refusal("zoo-think", SUM, context=[1, token])
    assert (status, str(token) in error) == (400, True)


LONG = " ".join(f"{number}" for number in range(400))


@pytest.mark.req("GEN-15")
@pytest.mark.parametrize(("num_predict", "kept"), [(6, 250), (100, 156), (-1, 130)])
def test_a_long_prompt_keeps_its_beginning_and_its_tail(wire: Wire, num_predict: int, kept: int) -> None:
    options = {"num_ctx": 256, "num_predict": num_predict, "num_keep": 4}
    record = wire.generate("zoo-think", LONG, options, raw=True, think=False, format={"choice": ["0"]})
    assert record["prompt_eval_count"] == kept
    assert record["warnings"][0].startswith(f"the prompt was cut by {record['truncated']} of {record['truncated'] + kept} ")


@pytest.mark.req("GEN-15")
def test_the_context_of_a_cut_prompt_is_whole(wire: Wire) -> None:
    record = wire.generate("zoo-think", LONG, {"num_ctx": 256, "num_predict": 6}, template="{{ .Prompt }}")
    assert len(record["context"]) == record["prompt_eval_count"] + record["truncated"] + 6


@pytest.mark.req("GEN-15")
def test_a_long_prompt_is_refused_when_it_may_not_be_cut(wire: Wire) -> None:
    status, error = wire.refusal("zoo-think", LONG, {"num_ctx": 256}, truncate=False, raw=True)
    length = wire.generate("zoo-think", LONG, {"num_predict": 0}, raw=True)["prompt_eval_count"]
    assert (status, f"the prompt has {length} tokens, the context holds 256" in error) == (400, True)


@pytest.fixture
def small_context(wire: Wire) -> Iterator[None]:
    """zoo-think with 256 tokens of context, as long as nobody asks for more."""
    wire.unload("zoo-think")
    yield
    wire.unload("zoo-think")


@pytest.mark.req("GEN-16")
def test_a_full_context_shifts_and_the_answer_says_so(wire: Wire, small_context: None) -> None:
    record = wire.generate("zoo-think", SUM, {**NO_END, "num_ctx": 256, "num_predict": 300})
    assert (record["done_reason"], record["eval_count"]) == ("length", 300)
    assert record["warnings"] == ["the context was full: its oldest half was dropped while generating"]


@pytest.mark.req("GEN-06", "GEN-16", "RES-02")
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_without_end_is_ended_after_ten_contexts(wire: Wire, small_context: None, stream: bool) -> None:
    fields: dict[str, Any] = {"raw": True, "think": False, "stream": stream}
    options = {**ENDLESS, "num_ctx": 256, "num_predict": -1}
    record = wire.stream("zoo-think", "2+3=", options, **fields)[-1]
    assert (record["done_reason"], record["eval_count"], record["prompt_eval_count"]) == ("length", 2560, 4)
    assert record["warnings"][0].startswith("the answer was ended after 2560 tokens")


@pytest.mark.req("GEN-06")
@pytest.mark.parametrize(("num_predict", "eval_count"), [(-2, 252), (300, 300)])
def test_the_context_ends_an_answer_only_when_asked_to(
    wire: Wire, small_context: None, num_predict: int, eval_count: int
) -> None:
    options = {**ENDLESS, "num_ctx": 256, "num_predict": num_predict}
    record = wire.generate("zoo-think", "2+3=", options, raw=True, think=False)
    assert (record["done_reason"], record["eval_count"]) == ("length", eval_count)


@pytest.mark.req("GEN-06")
@pytest.mark.parametrize(
    ("seed", "is_told"), [(0, False), (2**32 - 2, False), (2**32 - 1, True), (2**32, True), (2**63, True), (-1, False)]
)
def test_a_seed_that_the_engine_can_not_hold_is_told(wire: Wire, seed: int, is_told: bool) -> None:
    record = wire.generate("zoo-think", "2+3=", {"seed": seed, "temperature": 1, "num_predict": 1}, raw=True)
    assert any('"seed"' in warning for warning in record.get("warnings", ())) == is_told


@pytest.mark.req("GEN-06")
def test_the_same_seed_is_the_same_text_whatever_its_size(wire: Wire) -> None:
    for seed in (2**32 - 1, 2**40 + 1, 2**64 - 1):
        options = {"seed": seed, "temperature": 2, "num_predict": 12}
        one, other = (wire.generate("zoo-think", "2+3=", options, raw=True, think=False)["response"] for _ in range(2))
        assert one == other


@pytest.mark.req("GEN-16")
def test_a_full_context_ends_the_answer_without_shift(wire: Wire, small_context: None) -> None:
    options = {**NO_END, "num_ctx": 256, "num_predict": -1}
    record = wire.generate("zoo-think", SUM, options, shift=False)
    assert (record["done_reason"], record["eval_count"], "warnings" in record) == ("length", 256 - 18, False)


@pytest.mark.req("GEN-16", "LIFE-03")
def test_truncate_and_shift_never_reload(wire: Wire) -> None:
    wire.generate("zoo-think", SUM, {"num_predict": 1})
    for fields in ({"shift": False}, {"truncate": False}, {"shift": True, "truncate": True}):
        assert wire.generate("zoo-think", SUM, {"num_predict": 1}, **fields)["load_duration"] < 50e6


@pytest.mark.req("GEN-14", "GEN-16")
def test_a_thought_that_outgrows_the_context_is_followed_by_its_answer(wire: Wire, small_context: None) -> None:
    options = {**NO_END, "num_ctx": 256, "num_predict": 310, "think_budget": 300}
    record = wire.generate("zoo-think", SUM, options)
    assert (record["eval_count"], bool(record["response"])) == (310, True)


@pytest.mark.req("GEN-12", "GEN-16")
def test_an_answer_under_a_format_ends_with_its_context(wire: Wire, small_context: None) -> None:
    options = {**NO_END, "num_ctx": 256, "num_predict": -1, "think_budget": 300}
    record = wire.generate("zoo-think", SUM, options, format={"choice": ["yes", "no"]})
    assert (record["done_reason"], record["eval_count"], record["response"]) == ("length", 256 - 18, "")


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(
    ("template", "ignored"),
    [
        ("{{ .Prompt }}", ["system"]),
        ("{{ .System }}", ["prompt"]),
        ("fixed", ["prompt", "system"]),
        ("{{ .System }}{{ .Prompt }}", []),
        ("{{ range .Messages }}{{ .Content }}{{ end }}", []),
    ],
)
def test_a_text_that_the_template_has_no_place_for_is_told(wire: Wire, template: str, ignored: list[str]) -> None:
    record = wire.generate("zoo-think", "Hi", {"num_predict": 1}, template=template, system="S")
    assert [warning.split('"')[1] for warning in record.get("warnings", ())] == ignored
