"""llama.cpp behind the runner, from the wheel and from an executable: texts, options, log-probabilities, pictures, loads."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from serow.engines.kinds import IK, LLAMA_CPP, Engine, Feature
from serow.engines.llamacpp.request import completion_body
from serow.engines.llamacpp.runner import LlamaRunner
from serow.errors import FormatError, LoadError, RequestError, TemplateError
from serow.settings import Settings
from tests.engines.llamacpp.engines import ENDLESS, chat, chunks_of, completion, load_request, slots, text_of


async def test_a_greedy_answer_is_the_known_one(think: LlamaRunner) -> None:
    assert await text_of(think, completion(await chat(think, "What is 3 + 4?"))) == "3 + 4 = 7."


async def test_every_slot_has_the_context_that_was_asked_for(think: LlamaRunner) -> None:
    assert think.num_ctx == 512
    assert await slots(think) == [False] * 4


async def test_tokens_and_text_are_inverse(think: LlamaRunner) -> None:
    text = "<|im_start|>user\nÜber 日本 😀<|im_end|>"
    assert await think.detokenize(await think.tokenize(text, add_special=False)) == text


async def test_the_model_s_template_takes_its_arguments(think: LlamaRunner) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    assert "<think>\n\n</think>" in await think.apply_template(messages, {"enable_thinking": False})
    assert "</think>" not in await think.apply_template(messages, {"enable_thinking": True})


async def test_messages_that_the_template_does_not_take_are_the_request_s_fault(think: LlamaRunner) -> None:
    with pytest.raises(TemplateError, match=r"^the model's chat template does not accept the messages"):
        await think.apply_template([{"role": "user"}], {})


@pytest.mark.req("GEN-04")
async def test_chunks_arrive_one_by_one_and_the_last_has_the_usage(think: LlamaRunner) -> None:
    chunks = await chunks_of(think, completion(await chat(think, "What is 3 + 4?")))
    assert [chunk.text for chunk in chunks] == ["3", " +", " ", "4", " =", " ", "7", ".", "", ""]
    assert [chunk.usage is not None for chunk in chunks] == [False] * 9 + [True]
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.done_reason, usage.prompt_eval_count, usage.eval_count, usage.is_shifted) == ("stop", 20, 9, False)
    assert usage.prompt_eval_duration > 0
    assert usage.eval_duration > 0


@pytest.mark.req("RES-02")
async def test_a_prompt_seen_before_counts_whole_and_says_what_was_cached(think: LlamaRunner) -> None:
    request = completion(await chat(think, "What is 13 + 24?"), 1)
    await chunks_of(think, request)
    usage = (await chunks_of(think, request))[-1].usage
    assert usage is not None
    assert usage.done_reason == "length"
    assert (usage.prompt_eval_count, usage.prompt_cached_count) == (len(request.prompt), len(request.prompt) - 1)


async def test_the_first_chunk_tells_the_counts_of_the_prompt_that_the_last_one_tells(think: LlamaRunner) -> None:
    request = completion(await chat(think, "What is 21 + 43?"), 3)
    for _ in range(2):
        first, *_, last = await chunks_of(think, request)
        assert last.usage is not None and first.prompt_eval_count == len(request.prompt)
        assert (first.prompt_eval_count, first.prompt_cached_count) == (
            last.usage.prompt_eval_count,
            last.usage.prompt_cached_count,
        )


@pytest.mark.req("GEN-07")
@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (("7",), " "),
        (("67 +",), " 7\n"),  # three tokens
        (("67 -",), " 7\n67 +"),  # begins like the text, and is not in it
        ((" +9",), " 7\n67 +"),  # the limit comes while its beginning is held back
        (("+", "6"), " 7\n"),
    ],
)
async def test_a_stop_string_is_never_sent(think: LlamaRunner, stop: tuple[str, ...], text: str) -> None:
    prompt = await think.tokenize("3 + 4 =", add_special=False)
    chunks = await chunks_of(think, completion(prompt, 6, stop=stop))
    assert "".join(chunk.text for chunk in chunks) == text
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.done_reason == ("length" if text.endswith("+") else "stop")
    assert usage.stopping_word == ("" if text.endswith("+") else next(word for word in stop if word in ("7", "67 +", "6")))


@pytest.mark.req("GEN-07", "GEN-17")
@pytest.mark.parametrize("stop", [("67 +",), ("67 -",), (" +9",)])
async def test_log_probabilities_tell_exactly_the_text_that_is_sent(think: LlamaRunner, stop: tuple[str, ...]) -> None:
    prompt = await think.tokenize("3 + 4 =", add_special=False)
    chunks = await chunks_of(think, replace(completion(prompt, 6, stop=stop), logprobs=True))
    logprobs = [logprob for chunk in chunks for logprob in chunk.logprobs]
    assert "".join(logprob.token for logprob in logprobs) == "".join(chunk.text for chunk in chunks)
    assert all(bytes(logprob.bytes).decode() == logprob.token for logprob in logprobs)


@pytest.mark.req("GEN-17")
@pytest.mark.parametrize("top_logprobs", [0, 1, 3, 20])
async def test_each_token_has_its_log_probability_and_as_many_others_as_asked(think: LlamaRunner, top_logprobs: int) -> None:
    asked = replace(completion(await chat(think, "What is 3 + 4?")), logprobs=True, top_logprobs=top_logprobs)
    logprobs = [logprob for chunk in await chunks_of(think, asked) for logprob in chunk.logprobs]
    assert [logprob.token for logprob in logprobs] == ["3", " +", " ", "4", " =", " ", "7", "."]
    assert all(-0.1 < logprob.logprob < 0 for logprob in logprobs)
    assert {len(logprob.top_logprobs or ()) for logprob in logprobs} == {top_logprobs}


SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"num_keep": 7}, {"n_keep": 7}),
    ({"num_keep": -5}, {"n_keep": -1}),
    ({"seed": 42}, {"seed": 42}),
    ({"seed": -1}, {"seed": 4294967295}),
    ({"seed": -5}, {"seed": 4294967291}),
    ({"seed": 2**32 - 1}, {"seed": 2**32 - 2}),
    ({"seed": 2**63 + 5}, {"seed": 5}),
    ({"top_k": 3}, {"top_k": 3}),
    ({"top_k": -3}, {"top_k": 0}),
    ({"top_k": 2**63 - 1}, {"top_k": 2**31 - 1}),
    ({"top_p": 0.5}, {"top_p": 0.5}),
    ({"top_p": 2.0}, {"top_p": 1.0}),
    ({"top_p": -1.0}, {"top_p": 0.0}),
    ({"min_p": 0.25}, {"min_p": 0.25}),
    ({"min_p": 9.0}, {"min_p": 1.0}),
    ({"typical_p": 0.5}, {"typical_p": 0.5}),
    ({"repeat_last_n": 5}, {"repeat_last_n": 5}),
    ({"repeat_last_n": -1}, {"repeat_last_n": 512}),
    ({"repeat_last_n": 2**63 - 1}, {"repeat_last_n": 512}),
    ({"temperature": 0.5}, {"temperature": 0.5}),
    ({"temperature": -1.0}, {"temperature": 0.0}),
    ({"repeat_penalty": 1.5}, {"repeat_penalty": 1.5}),
    ({"presence_penalty": 1.5}, {"presence_penalty": 1.5}),
    ({"frequency_penalty": -0.5}, {"frequency_penalty": -0.5}),
    ({"stop": ("a", "bc")}, {"stop": ["a", "bc"]}),
    ({"mirostat": 2}, {"mirostat": 2}),
    ({"mirostat": 7}, {"mirostat": 2}),
    ({"mirostat_tau": 4.0}, {"mirostat_tau": 4.0}),
    ({"mirostat_eta": 0.25}, {"mirostat_eta": 0.25}),
    ({"dry_multiplier": 0.5}, {"dry_multiplier": 0.5}),
    ({"dry_base": 2.0}, {"dry_base": 2.0}),
    ({"dry_allowed_length": 3}, {"dry_allowed_length": 3}),
    ({"dry_allowed_length": -3}, {"dry_allowed_length": 0}),
    ({"dry_penalty_last_n": -1}, {"dry_penalty_last_n": 512}),
    ({"xtc_probability": 0.5}, {"xtc_probability": 0.5}),
    ({"xtc_threshold": 0.25}, {"xtc_threshold": 0.25}),
    ({"min_keep": 2}, {"min_keep": 2}),
    ({"min_keep": -2}, {"min_keep": 0}),
    ({"logit_bias": ((5, -1.5),)}, {"logit_bias": [{"bias": -1.5, "token": 5}]}),
    ({}, {"temperature": 0.0, "top_k": 40, "repeat_last_n": 64, "min_p": 0.0, "mirostat": 0, "dry_multiplier": 0.0}),
]


@pytest.mark.req("GEN-06")
async def test_no_option_is_left_for_the_next_request(think: LlamaRunner) -> None:
    prompt = await chat(think, "What is 3 + 4?")
    await text_of(think, completion(prompt, 5, logit_bias=((20, 1000.0),)))
    for _ in range(len(await slots(think))):  # whichever slot it gets
        assert await text_of(think, completion(prompt)) == "3 + 4 = 7."


UNTOLD_BY_IK = ("xtc_probability", "xtc_threshold", "logit_bias")  # it takes them, and lists them otherwise or not at all


@pytest.mark.req("GEN-06")
@pytest.mark.parametrize(("options", "expected"), SETTINGS, ids=[str(options) for options, _ in SETTINGS])
async def test_options_reach_the_engine(
    think: LlamaRunner, engine: Engine, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    body = completion_body(completion([1, 2, 3], 1, **options), think.num_ctx, LLAMA_CPP)
    body |= {"stream": False, "response_fields": ["generation_settings"]}
    async with think._child.session.post("/completion", json=body) as response:
        settings = (await response.json())["generation_settings"]
    if engine.kind is IK:
        expected = {name: value for name, value in expected.items() if name not in UNTOLD_BY_IK}
    assert {name: settings[name] for name in expected} == expected


@pytest.mark.req("GEN-06")
async def test_a_repeat_penalty_of_zero_is_the_request_s_fault(think: LlamaRunner) -> None:
    with pytest.raises(RequestError, match=r'^option "repeat_penalty" must be greater than 0$'):
        await chunks_of(think, completion([1], repeat_penalty=0.0))


@pytest.mark.req("RES-03")
async def test_the_same_seed_gives_the_same_text(think: LlamaRunner) -> None:
    prompt = await chat(think, "Hello")
    seeded = completion(prompt, 30, temperature=2.0, seed=7, top_k=0, top_p=1.0)
    assert await text_of(think, seeded) == await text_of(think, seeded)
    assert await text_of(think, seeded) != await text_of(
        think, completion(prompt, 30, temperature=2.0, seed=8, top_k=0, top_p=1.0)
    )


async def test_an_answer_that_is_not_utf_8_has_its_end(think: LlamaRunner) -> None:
    lone_byte = 199  # 0xff
    chunks = await chunks_of(think, completion([1], 3, logit_bias=((lone_byte, 1000.0),)))
    assert "".join(chunk.text for chunk in chunks) == "\ufffd" * 3
    assert chunks[-1].usage is not None


YES_OR_NO = '%llguidance {}\nstart: "yes" | "no"'


@pytest.mark.req("GEN-12")
@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"grammar": YES_OR_NO, "gbnf": 'root ::= "yes" | "no"'}, ("yes", "no")),
        ({"grammar": '%llguidance {}\nstart: %json {"enum": [true]}', "json_schema": {"enum": [True]}}, ("true",)),
    ],
)
async def test_a_grammar_binds_the_text(think: LlamaRunner, fields: dict[str, Any], texts: tuple[str, ...]) -> None:
    request = replace(completion(await chat(think, "What is 3 + 4?")), **fields)
    assert (await text_of(think, request)).strip() in texts


async def test_a_grammar_that_is_none_is_refused(think: LlamaRunner) -> None:
    with pytest.raises(FormatError, match=r"^the engine does not accept the grammar of the format$"):
        await chunks_of(think, replace(completion([1]), grammar="root ::= (", gbnf="root ::= ("))


async def test_a_grammar_that_would_abort_the_engine_never_reaches_it(think: LlamaRunner, engine: Engine) -> None:
    request = replace(completion([1]), grammar=YES_OR_NO)
    if not engine.can(frozenset({Feature.LLGUIDANCE})):
        with pytest.raises(FormatError, match=f"^the engine {engine.name} can't hold the text to this format$"):
            await chunks_of(think, request)
    else:
        assert await text_of(think, request) in ("yes", "no")
    assert think.is_alive


@pytest.mark.req("GEN-16")
async def test_past_the_end_of_the_context_it_goes_on_and_says_so(think: LlamaRunner) -> None:
    chunks = await chunks_of(think, completion(await chat(think, "Hello"), 600, **ENDLESS))
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.eval_count, usage.done_reason, usage.is_shifted) == (600, "length", True)


@pytest.mark.req("RES-05")
@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ([99999], "the prompt holds token ids that the model does not have"),
        ([1] * 600, "the prompt has 600 tokens, the context holds 512"),
        ([], "the engine does not accept the request"),
    ],
)
async def test_what_the_engine_refuses_is_told_in_our_words(think: LlamaRunner, prompt: list[int], sentence: str) -> None:
    with pytest.raises(RequestError, match=f"^{sentence}$"):
        await chunks_of(think, completion(prompt, 4))


@pytest.mark.req("GEN-13")
@pytest.mark.parametrize("case", range(9))
async def test_a_picture_is_seen(vision: LlamaRunner, zoo: Path, case: int) -> None:
    known = json.loads((zoo / "vision_cases.json").read_text())[case]
    content = f"{vision.media_marker}\n{known['prompt']}"
    prompt = await vision.apply_template([{"role": "user", "content": content}], {})
    picture = (zoo / known["image"]).read_bytes()
    assert await text_of(vision, completion(prompt, images=(picture,))) == known["expect"]


@pytest.mark.req("GEN-13")
async def test_a_picture_that_can_not_be_read_is_the_request_s_fault(vision: LlamaRunner) -> None:
    with pytest.raises(RequestError, match=r"^the engine can't read one of the images$"):
        await chunks_of(vision, completion(vision.media_marker, images=(b"no picture",)))


BROKEN = [
    ("cut", lambda weights: weights[:20000], "the model file is broken"),
    ("without tensors", lambda weights: weights[: len(weights) // 2], "the model file is broken"),
    ("empty", lambda _: b"", "the model file is broken"),
    ("no GGUF", lambda _: b"hello" * 100, "the model file is not a GGUF file"),
    ("unknown", lambda weights: weights.replace(b"qwen3", b"qwen9"), "the engine does not know the architecture qwen9"),
]


@pytest.mark.parametrize(("name", "broken", "sentence"), BROKEN, ids=[case[0] for case in BROKEN])
async def test_a_file_that_can_not_be_loaded_is_told_in_a_sentence(
    engine: Engine, zoo: Path, tmp_path: Path, name: str, broken: Any, sentence: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(broken((zoo / "zoo-think.gguf").read_bytes()))
    runner = LlamaRunner(load_request(path, engine=engine), Settings())
    if engine.executable:  # its log ends with its threads, and ik_llama.cpp tells an empty file from a broken one
        sentence += "|the engine ended with status 1 while it started|the model file is not a GGUF file"
    with pytest.raises(LoadError, match=f"^could not load the model: ({sentence})$"):
        await runner.load()
    assert not runner.is_alive


@pytest.mark.parametrize("executable", ["/no/such/llama-server", __file__])
async def test_an_executable_that_can_not_be_started_is_told_in_a_sentence(zoo: Path, executable: str) -> None:
    engine = Engine(LLAMA_CPP, executable=Path(executable))
    runner = LlamaRunner(load_request(zoo / "zoo-think.gguf", engine=engine), Settings())
    with pytest.raises(LoadError, match=r"^could not load the model: the engine's executable can't be started$"):
        await runner.load()


async def test_an_engine_has_as_many_slots_as_asked_and_no_web_page(engine: Engine, zoo: Path) -> None:
    runner = LlamaRunner(load_request(zoo / "zoo-think.gguf", num_ctx=300, num_parallel=3, engine=engine), Settings())
    await runner.load()
    assert len(await slots(runner)) == 3
    assert runner.num_ctx == 512  # rounded up to a multiple of 256
    for path, status in (("/metrics", 200), ("/", 404)):
        async with runner._child.session.get(path) as response:
            assert response.status == status
    await runner.close()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("use_mmap", [True, False])
async def test_weights_are_mapped_when_asked(engine: Engine, zoo: Path, use_mmap: bool) -> None:
    runner = LlamaRunner(load_request(zoo / "zoo-think.gguf", use_mmap=use_mmap, engine=engine), Settings())
    await runner.load()
    process = [psutil.Process(runner.pid), *psutil.Process(runner.pid).children()][-1]
    assert any("zoo-think.gguf" in mapped.path for mapped in process.memory_maps()) is use_mmap
    await runner.close()
