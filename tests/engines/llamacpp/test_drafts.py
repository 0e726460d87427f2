"""Engines that guess at the next tokens of a text that repeats itself: faster, and the same text."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from serow.engines.base import CompletionRequest, Usage
from serow.engines.kinds import Engine, FlagSet
from serow.engines.llamacpp.runner import LlamaRunner
from serow.engines.llamacpp.spec import NUM_DRAFT, NUM_GUESS
from serow.settings import Settings
from serow.store.guesser import Guesser
from tests.engines.llamacpp.engines import EXECUTABLES, chunks_of, completion, engine_of, load_request, text_of

pytestmark = [pytest.mark.native]
COUNT = "one two three four five six seven eight nine ten " * 4
TELLING_OF_GUESSES = 64  # tokens, after which an engine knows whether guessing pays


@pytest.fixture(scope="module", params=EXECUTABLES)
def guessing(request: pytest.FixtureRequest) -> Engine:
    """Each engine that can guess; the wheel can't leave it for one request."""
    return engine_of(request.param)


@pytest_asyncio.fixture(scope="module")
async def runners(guessing: Engine, smollm2: Path) -> AsyncIterator[list[LlamaRunner]]:
    """The same model without guesses and with them."""
    base = load_request(smollm2, engine=guessing)
    both = [LlamaRunner(replace(base, flags=FlagSet(drafts=drafts)), Settings()) for drafts in (False, True)]
    for runner in both:
        await runner.load()
    yield both
    for runner in both:
        await runner.close()


@pytest_asyncio.fixture(scope="module")
async def by_model(zoo: Path) -> AsyncIterator[list[LlamaRunner]]:
    """Without guesses, with those of a smaller model (here the model itself), and with those of what stood there before too."""
    base = load_request(zoo / "zoo-think.gguf", engine=engine_of("llama.cpp"))
    model = replace(base.model, draft=Guesser(base.model.weights, 1))
    flag_sets = FlagSet(), FlagSet(draft_model=True), FlagSet(drafts=True, draft_model=True)
    every = [LlamaRunner(replace(base, model=model, flags=flags), Settings()) for flags in flag_sets]
    for runner in every:
        await runner.load()
    yield every
    for runner in every:
        await runner.close()


@pytest.mark.parametrize("options", [{}, {"temperature": 0.8, "seed": 7}, {"draft_num_predict": 2}, {"num_draft": 0}])
async def test_a_smaller_model_guesses_and_the_text_is_the_same(by_model: list[LlamaRunner], options: dict[str, Any]) -> None:
    prompt = await by_model[0].tokenize(COUNT, add_special=False)
    plain, *guessed = [await chunks_of(each, completion(prompt, 60, **options)) for each in by_model]
    for chunks in guessed:
        assert "".join(chunk.text for chunk in chunks) == "".join(chunk.text for chunk in plain)
        usage = chunks[-1].usage
        assert usage and (usage.draft_accepted_count > 0) is (options.get("num_draft") != 0)
    assert [each.num_draft for each in by_model] == [0, NUM_GUESS, NUM_DRAFT]


async def test_a_smaller_model_goes_on_behind_a_shift_and_is_silent_where_log_probabilities_are_told(
    by_model: list[LlamaRunner],
) -> None:
    whole = await by_model[0].tokenize(COUNT * 20, add_special=False)
    for wanted, guesses in ((completion(whole[:480], 80), True), (replace(completion(whole[:40], 20), logprobs=True), False)):
        plain, *guessed = [await chunks_of(each, wanted) for each in by_model]
        for chunks in guessed:
            assert "".join(chunk.text for chunk in chunks) == "".join(chunk.text for chunk in plain)
            usage = chunks[-1].usage
            assert usage and bool(usage.draft_count) is guesses


async def usage_of(runner: LlamaRunner, request: CompletionRequest) -> Usage:
    """What a completion cost."""
    usage = (await chunks_of(runner, request))[-1].usage
    assert usage
    return usage


@pytest.mark.parametrize("options", [{}, {"temperature": 0.8, "seed": 7}, {"stop": ["seven"]}, {"repeat_penalty": 1.3}])
@pytest.mark.parametrize("num_predict", [1, 2, 17, 60])
async def test_guesses_do_not_change_the_text(runners: list[LlamaRunner], num_predict: int, options: dict[str, Any]) -> None:
    prompt = await runners[0].tokenize(COUNT, add_special=False)
    plain, guessed = [await chunks_of(each, completion(prompt, num_predict, **options)) for each in runners]
    assert "".join(chunk.text for chunk in guessed) == "".join(chunk.text for chunk in plain)
    one, other = plain[-1].usage, guessed[-1].usage
    assert one and other
    assert (other.eval_count, other.done_reason, other.stopping_word) == (one.eval_count, one.done_reason, one.stopping_word)


async def test_guesses_end_before_the_context_and_go_on_behind_its_shift(runners: list[LlamaRunner]) -> None:
    whole = await runners[0].tokenize(COUNT * 20, add_special=False)
    wanted = completion(whole[:480], 80)  # of 512
    plain, guessed = [await chunks_of(each, wanted) for each in runners]
    assert "".join(chunk.text for chunk in guessed) == "".join(chunk.text for chunk in plain)
    usage = guessed[-1].usage
    assert usage and usage.is_shifted and usage.eval_count == 80
    assert usage.draft_accepted_count > 0


async def test_what_stood_there_before_is_guessed_and_most_of_it_is_right(runners: list[LlamaRunner]) -> None:
    wanted = completion(await runners[0].tokenize(COUNT, add_special=False), 60)
    plain, guessed = [await usage_of(each, wanted) for each in runners]
    assert (plain.draft_count, plain.draft_accepted_count) == (0, 0)
    assert 0 < guessed.draft_count < 2 * guessed.draft_accepted_count


async def test_a_request_says_how_many_tokens_are_guessed_at_once(runners: list[LlamaRunner]) -> None:
    prompt = await runners[0].tokenize(COUNT, add_special=False)
    asked: list[dict[str, Any]] = [{"draft_num_predict": 10**6}, {"num_draft": 2}, {"draft_num_predict": 0}]
    as_ever, two, none = [await usage_of(runners[1], completion(prompt, 60, **options)) for options in asked]
    assert none.draft_count == 0 < two.draft_count < as_ever.draft_count


async def test_log_probabilities_are_told_of_every_token_so_nothing_is_guessed(runners: list[LlamaRunner]) -> None:
    wanted = replace(completion(await runners[0].tokenize(COUNT, add_special=False), 20), logprobs=True, top_logprobs=1)
    plain, guessed = [await chunks_of(each, wanted) for each in runners]
    assert guessed[-1].usage and guessed[-1].usage.draft_count == 0
    told = [logprob for chunk in guessed for logprob in (*chunk.logprobs, *chunk.withheld)]
    assert len(told) == 20
    assert told == [logprob for chunk in plain for logprob in (*chunk.logprobs, *chunk.withheld)]


async def test_who_guesses_wrong_stops_guessing(runners: list[LlamaRunner]) -> None:
    _, runner = runners
    heads, tails = await runner.tokenize(" heads", add_special=False), await runner.tokenize(" tails", add_special=False)
    coins = [coin for number in range(300) for coin in (heads if (number * number) % 7 < 4 else tails)]
    tossed = completion(coins, 200, temperature=50.0, seed=1, top_k=0, logit_bias=((heads[0], 1000.0), (tails[0], 1000.0)))
    usage = await usage_of(runner, tossed)
    assert usage.eval_count == 200
    assert usage.draft_accepted_count < usage.draft_count / 2
    assert TELLING_OF_GUESSES <= usage.draft_count < TELLING_OF_GUESSES + NUM_DRAFT


async def test_a_grammar_binds_what_is_guessed(runners: list[LlamaRunner]) -> None:
    prompt = await runners[0].tokenize(COUNT, add_special=False)
    digits = replace(completion(prompt, 40), grammar="start: /[0-9]*/", gbnf='root ::= ("1" "2" "3" "4" "5" "6" "7" "8" " ")*')
    plain, guessed = [await text_of(each, digits) for each in runners]
    assert plain == guessed
    assert guessed.startswith("12345678 12345678 ")
