"""The flow of text with an engine that says what the test wrote: prompt, pieces, last record."""

import asyncio
from typing import Any

import pytest

from serow.engines.base import CompletionRequest
from serow.errors import EngineDied, ModelNotFound, RequestError, TemplateError
from serow.store.model import Capability
from tests.constraints.hostile import TEXTS
from tests.support.engine import MEDIA_MARKER, FakeEngine
from tests.support.flow import flow, model

THINKS: tuple[Capability, ...] = ("completion", "thinking")
GO = "{{ .System }}|{{ .Prompt }}|{{ .Response }}"
OPEN = "{{ messages }}<think>"  # a Jinja template that names the tags


async def test_each_token_is_a_record_and_the_last_one_counts() -> None:
    async with flow(FakeEngine(["Hel", "lo", "!"])) as asked:
        *pieces, last = await asked.generate("Hi")
    assert [piece["response"] for piece in pieces] == ["Hel", "lo", "!"]
    assert not any(piece["done"] for piece in pieces)
    assert (last["done"], last["done_reason"], last["response"]) == (True, "stop", "")
    assert (last["prompt_eval_count"], last["eval_count"]) == (len("[user]Hi\n[assistant]"), 4)
    assert last["total_duration"] > 0 and last["load_duration"] >= 0 and "warnings" not in last


async def test_the_context_is_the_prompt_and_all_that_was_written() -> None:
    async with flow(FakeEngine(["Yes"])) as asked:
        last = await asked.whole("Hi")
    assert "".join(map(chr, last["context"])) == "[user]Hi\n[assistant]Yes"


async def test_a_whole_answer_is_one_record() -> None:
    async with flow(FakeEngine(["Hel", "lo"])) as asked:
        record = await asked.whole("Hi", logprobs=True)
    assert (record["response"], record["done"]) == ("Hello", True)
    assert [entry["token"] for entry in record["logprobs"]] == ["Hel", "lo"]


async def test_the_system_text_and_the_prompt_go_through_the_models_template() -> None:
    engine = FakeEngine(["x"])
    async with flow(engine, system="Be brief.") as asked:
        await asked.generate("Hi")
        await asked.generate("Hi", system="Be long.")
    assert engine.prompts == ["[system]Be brief.\n[user]Hi\n[assistant]", "[system]Be long.\n[user]Hi\n[assistant]"]


async def test_a_go_template_is_rendered_here() -> None:
    engine = FakeEngine(["x"])
    async with flow(engine, template=GO, system="S") as asked:
        await asked.generate("Hi")
    assert engine.prompts == ["S|Hi|"] and not engine.rendered


async def test_a_raw_prompt_is_sent_as_it_is_and_gives_no_context() -> None:
    engine = FakeEngine(["x"])
    async with flow(engine) as asked:
        record = await asked.whole("1, 2,", raw=True)
    assert engine.prompts == ["1, 2,"] and "context" not in record


async def test_context_stands_before_the_new_turn() -> None:
    engine = FakeEngine(["x"])
    async with flow(engine) as asked:
        await asked.generate("And?", context=[ord("a"), ord("b")])
    assert engine.prompts == ["ab\n[user]And?\n[assistant]"]


async def test_the_middle_is_filled_in_by_the_models_own_tokens() -> None:
    engine = FakeEngine(["x"])
    async with flow(engine, fim_tokens=(ord("<"), ord("^"), ord(">")), system="S") as asked:
        await asked.generate("a", suffix="b", context=[1])
    assert engine.prompts == ["<a^b>"]


async def test_a_prompt_that_is_too_long_is_cut_and_the_answer_says_so() -> None:
    engine = FakeEngine(["x"], num_ctx=256)
    async with flow(engine) as asked:
        record = await asked.whole("a" * 300, raw=True, options={"num_keep": 0, "num_predict": 56})
    assert len(engine.prompts[0]) == 200 and record["truncated"] == 100
    assert record["warnings"] == ["the prompt was cut by 100 of 300 tokens to fit a context of 256"]


async def test_a_prompt_that_is_too_long_and_must_not_be_cut_is_refused() -> None:
    async with flow(FakeEngine(["x"], num_ctx=256)) as asked:
        with pytest.raises(RequestError, match="the prompt has 300 tokens, the context holds 256"):
            await asked.generate("a" * 300, raw=True, truncate=False)


async def test_of_a_prompt_that_is_far_too_long_only_the_ends_are_tokenized() -> None:
    engine = FakeEngine(["x"], num_ctx=256)
    async with flow(engine) as asked:
        record = await asked.whole("ab" + "c" * 99_996 + "yz", raw=True, options={"num_keep": 2, "num_predict": 54})
        with pytest.raises(RequestError, match="the prompt has at least 12288 tokens, the context holds 256"):
            await asked.generate("a" * 100_000, raw=True, truncate=False)
    assert engine.prompts[0] == "ab" + "c" * 198 + "yz"
    assert record["truncated"] == 100_000 - 202
    assert record["warnings"] == ["the prompt was cut by about 99798 of 100000 tokens to fit a context of 256"]


async def test_a_text_beside_pictures_that_is_too_long_reaches_no_engine(png: str) -> None:
    engine = FakeEngine(["x"], num_ctx=256)
    async with flow(engine, "completion", "vision") as asked:
        with pytest.raises(RequestError, match="the prompt has at least 307 tokens, the context holds 256"):
            await asked.generate("a" * 300, raw=True, images=[png])
    assert not engine.prompts


async def test_without_shift_an_answer_ends_where_the_context_does() -> None:
    engine = FakeEngine(["x"] * 300, num_ctx=256)
    async with flow(engine) as asked:
        record = await asked.whole("a" * 250, raw=True, shift=False)
    assert (record["response"], record["done_reason"]) == ("x" * 6, "length")


async def test_a_context_that_was_shifted_is_told() -> None:
    async with flow(FakeEngine(["x"] * 10, num_ctx=256)) as asked:
        record = await asked.whole("a" * 250, raw=True)
    assert record["warnings"] == ["the context was full: its oldest half was dropped while generating"]


async def test_no_token_is_sampled_where_none_is_wanted() -> None:
    engine = FakeEngine(["x"])
    async with flow(engine) as asked:
        record = await asked.whole("Hi", options={"num_predict": 0})
    assert (record["response"], record["done_reason"], record["eval_count"]) == ("", "length", 0) and not engine.requests


async def test_thinking_and_answer_come_apart() -> None:
    engine = FakeEngine(["<th", "ink>", "Hm", ".", "</think>", "\n\n", "Yes"])
    async with flow(engine, *THINKS, chat_template=OPEN) as asked:
        *pieces, _ = await asked.generate("Hi")
    assert [(piece.get("thinking", ""), piece["response"]) for piece in pieces] == [("Hm", ""), (".", ""), ("", "Yes")]
    assert "<think>" in engine.requests[0].visible


async def test_thinking_that_the_prompt_has_opened_goes_on() -> None:
    engine = FakeEngine(["Hm", "</think>", "Yes"], template=lambda *_: "Q<think>\n")
    async with flow(engine, *THINKS, chat_template=OPEN) as asked:
        record = await asked.whole("Hi")
    assert (record["thinking"], record["response"]) == ("Hm", "Yes")


async def test_text_that_only_began_like_a_tag_is_not_lost() -> None:
    async with flow(FakeEngine(["<thi"]), *THINKS, chat_template=OPEN) as asked:
        assert (await asked.whole("Hi"))["response"] == "<thi"
    async with flow(FakeEngine(["<think>", "a</thi"]), *THINKS, chat_template=OPEN) as asked:
        assert (await asked.whole("Hi"))["thinking"] == "a</thi"


def thinking_first(request: CompletionRequest) -> list[str]:
    """Thinks in a first run, which is free, and answers in the second, which is bound."""
    return ["4", "2"] if request.grammar else ["<think>", "Hm", "</think>", "not bound"]


async def test_with_a_format_the_thinking_runs_free_and_the_answer_bound() -> None:
    engine = FakeEngine(thinking_first)
    async with flow(engine, *THINKS, chat_template=OPEN) as asked:
        record = await asked.whole("Hi", format={"type": "integer"})
    assert (record["thinking"], record["response"], record["done_reason"]) == ("Hm", "42", "stop")
    free, bound = engine.requests
    assert not free.grammar and "</think>" in free.options.stop
    assert bound.grammar and engine.prompts[1] == engine.prompts[0] + "<think>Hm</think>\n\n"
    assert record["eval_count"] == 3 + 3
    assert "".join(map(chr, record["context"])) == engine.prompts[1] + "42"


async def test_an_answer_without_thinking_is_bound_from_its_first_token() -> None:
    engine = FakeEngine(lambda request: ["4", "2"] if request.grammar else ["Sure", ", "])
    async with flow(engine, *THINKS, chat_template=OPEN) as asked:
        record = await asked.whole("Hi", format={"type": "integer"}, options={"num_predict": 9})
    assert record["response"] == "42" and "thinking" not in record
    assert engine.prompts[0] == engine.prompts[1] and engine.requests[1].num_predict == 9
    assert record["eval_count"] == 3


async def test_a_budget_ends_the_thinking() -> None:
    engine = FakeEngine(lambda request: ["Yes"] if request.num_predict > 3 else ["<think>", "a", "b", "c", "d"])
    async with flow(engine, *THINKS, chat_template=OPEN) as asked:
        record = await asked.whole("Hi", options={"think_budget": 3})
    assert (record["thinking"], record["response"]) == ("ab", "Yes")
    assert engine.prompts[1].endswith("<think>ab</think>\n\n")


async def test_a_stop_string_inside_the_thinking_ends_all() -> None:
    engine = FakeEngine(["<think>", "a", "STOP", "</think>", "x"])
    async with flow(engine, *THINKS, chat_template=OPEN) as asked:
        *pieces, last = await asked.generate("Hi", format={"type": "integer"}, options={"stop": ["STOP"]})
    assert "".join(piece.get("thinking", "") for piece in pieces) == "a" and last["done_reason"] == "stop"
    assert len(engine.requests) == 1


async def test_log_probabilities_of_the_closing_tag_are_told_too() -> None:
    async with flow(FakeEngine(thinking_first), *THINKS, chat_template=OPEN) as asked:
        record = await asked.whole("Hi", format={"type": "integer"}, logprobs=True)
    assert [entry["token"] for entry in record["logprobs"]] == ["<think>", "Hm", "</think>", "4", "2"]


async def test_an_answer_that_fails_a_relaxed_schema_is_sampled_again_with_another_seed() -> None:
    answers = iter(("[1, 1]", "[1, 2]"))
    engine = FakeEngine(lambda _: [next(answers)])
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    async with flow(engine) as asked:
        record = await asked.whole("Hi", format=schema, options={"seed": 5})
    assert record["response"] == "[1, 2]" and "format_valid" not in record
    assert [request.options.seed for request in engine.requests] == [5, 6]
    assert len(record["warnings"]) == 1


async def test_an_answer_that_takes_too_long_to_check_is_not_sampled_again() -> None:
    format, text = TEXTS["a schema that doubles with each level"]()
    engine = FakeEngine([text])
    async with flow(engine) as asked:
        record = await asked.whole("Hi", format=format)
    assert record["format_valid"] is False and len(engine.requests) == 1
    assert "so it is not known to fit" in record["warnings"][-1]


async def test_a_streamed_answer_that_fails_says_so() -> None:
    engine = FakeEngine(["[1, 1]"])
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    async with flow(engine) as asked:
        *_, last = await asked.generate("Hi", format=schema)
    assert last["format_valid"] is False and len(engine.requests) == 1


async def test_pictures_stand_where_the_prompt_has_them(png: str) -> None:
    engine = FakeEngine(["x"])
    async with flow(engine, "completion", "vision") as asked:
        await asked.generate(f"a {MEDIA_MARKER}[img-0] b", images=[png], raw=True)
    assert engine.prompts == [f"a {MEDIA_MARKER} b"] and len(engine.requests[0].images) == 1


async def test_an_empty_prompt_loads_and_keep_alive_zero_unloads() -> None:
    engine = FakeEngine()
    async with flow(engine) as asked:
        (loaded,) = await asked.generate()
        assert (loaded["done_reason"], engine.is_alive, engine.num_loads) == ("load", True, 1)
        (unloaded,) = await asked.generate(keep_alive=0)
        assert (unloaded["done_reason"], engine.is_alive) == ("unload", False)
    assert not engine.requests


@pytest.mark.req("LIFE-04")
async def test_a_model_whose_files_are_gone_is_unloaded_by_its_name() -> None:
    engine = FakeEngine()
    async with flow(engine) as asked:
        await asked.generate()
        asked.store.remove("m")
        with pytest.raises(ModelNotFound):
            await asked.generate("Hi", keep_alive=0)
        assert ((await asked.generate(keep_alive=0))[0]["done_reason"], engine.is_alive) == ("unload", False)
        with pytest.raises(ModelNotFound):
            await asked.generate(keep_alive=0)


async def test_the_prompt_alone_is_rendered_for_who_asks() -> None:
    engine = FakeEngine()
    async with flow(engine) as asked:
        (record,) = await asked.generate("Hi", _debug_render_only=True)
    assert record["_debug_info"] == {"rendered_template": "[user]Hi\n[assistant]"} and not record["done"]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"think": True}, '"m" does not support thinking'),
        ({"suffix": "x"}, '"m" does not support insert'),
        ({"images": ["eA=="]}, '"m" does not support images'),
        ({"raw": True, "system": "x"}, "raw mode does not support template, system, or context"),
        ({"context": [-1]}, "context holds the token id -1; the model knows ids from 0 to 1114111"),
    ],
)
async def test_what_the_model_can_not_do_is_refused(fields: dict[str, Any], error: str) -> None:
    engine = FakeEngine(["x"])
    async with flow(engine) as asked:
        with pytest.raises(RequestError) as caught:
            await asked.generate("Hi", **fields)
    assert str(caught.value) == error and not engine.requests


async def test_a_template_that_does_not_parse_is_the_requests_fault() -> None:
    async with flow(FakeEngine(["x"])) as asked:
        with pytest.raises(TemplateError):
            await asked.generate("Hi", template="{{")


async def test_what_nobody_uses_is_told() -> None:
    async with flow(FakeEngine(["x"]), fim_tokens=(1, 2, 3)) as asked:
        record = await asked.whole(
            "Hi", options={"odd": 1, "draft_num_predict": 2, "num_draft": 0, "guidance": 1}, width=8, suffix="s", system="S"
        )
    assert record["warnings"] == [
        'unknown option "odd" was ignored',
        '"width" was ignored: "m" is not an image model',
        'option "guidance" was ignored: "m" is not an image model',
        '"system" was ignored: fill in the middle does not use it',
        'option "draft_num_predict" was ignored: nothing is guessed of "m", no check of an engine that guesses has seen it pay',
    ]


@pytest.mark.req("GEN-06")
async def test_an_engine_that_guesses_is_told_how_much_and_nothing_is_said_of_it() -> None:
    engine = FakeEngine(["x"])
    engine.num_draft = 8
    async with flow(engine) as asked:
        record = await asked.whole("Hi", options={"num_draft": 3})
    assert "warnings" not in record
    assert engine.requests[-1].options.most_guessed == 3


@pytest.mark.req("GEN-06", "OAI-06")
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seed": 2**32 - 2, "logit_bias": {"5": 1, "word": 2}}, None),
        ({"seed": 2**64}, 'option "seed" is used modulo 2^32: the engine takes no larger one'),
        ({"logit_bias": {"5": 1, "99999999": 1}}, 'option "logit_bias" was ignored for the token id 99999999'),
        ({"logit_bias": [[-3, 1]]}, 'option "logit_bias" was ignored for the token id -3'),
    ],
)
async def test_what_the_engine_can_not_use_of_an_option_is_told(options: dict[str, Any], told: str | None) -> None:
    async with flow(FakeEngine(["x"])) as asked:
        record = await asked.whole("Hi", options=options)
    assert [text.partition(": the model knows")[0] for text in record.get("warnings", [])] == ([told] if told else [])


@pytest.mark.parametrize(
    ("template", "warnings"),
    [("{{ .Prompt }}", ['"template" was ignored: it has no place for a suffix']), ("{{ .Prompt }}{{ .Suffix }}", None)],
)
async def test_a_template_that_can_not_place_the_suffix_is_told(template: str, warnings: list[str] | None) -> None:
    async with flow(FakeEngine(["x"]), fim_tokens=(1, 2, 3)) as asked:
        record = await asked.whole("Hi", suffix="s", template=template)
    assert record.get("warnings") == warnings


async def test_an_error_of_the_engine_comes_through_in_the_middle_of_a_stream() -> None:
    said = []
    async with flow(FakeEngine(["a", EngineDied("the engine ended with signal 9")])) as asked:
        with pytest.raises(EngineDied):
            async for record in asked.records("Hi"):
                said.append(record["response"])
    assert said == ["a"]


async def test_who_leaves_ends_the_engines_work() -> None:
    never = asyncio.Event()
    engine = FakeEngine(["a", never, "b"])
    async with flow(engine) as asked:
        records = asked.records("Hi")
        assert (await anext(records))["response"] == "a" and engine.num_running == 1
        await records.aclose()
        assert engine.num_running == 0


async def test_answers_of_one_model_run_together() -> None:
    ready = asyncio.Event()
    engine = FakeEngine(["a", ready, "b"])
    async with flow(engine) as asked:
        streams = [asked.records("Hi") for _ in range(4)]
        assert [(await anext(stream))["response"] for stream in streams] == ["a"] * 4
        ready.set()
        assert [(await anext(stream))["response"] for stream in streams] == ["b"] * 4
        for stream in streams:
            await stream.aclose()


def test_a_model_of_a_test_is_a_model() -> None:
    assert model("m", "image").is_image and not model("m").is_image
