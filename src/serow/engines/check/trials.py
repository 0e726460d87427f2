"""What an engine has to do as the wheel does, with one model and one set of flags: trial after trial.

A trial returns, or raises EngineError with the reason in words, or whatever the engine fails with.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter

from serow.engines.base import CompletionRequest, LoadRequest, TextRunner
from serow.engines.check.answers import Answer, ask, collect, departs, differs, greedy, together
from serow.engines.check.baseline import Baseline, Text, next_step
from serow.engines.check.prompts import FOLLOW_UP, picture
from serow.errors import EngineError, TemplateError

_NUM_FOLLOWING = 4  # tokens after a follow-up
_NUM_SEEN = 8  # tokens about a picture
_PART = 3  # a client leaves after one part in so many of the time that its prompt takes
_MESSAGES = (
    {"role": "user", "content": "Hello, who are you?"},
    {"role": "assistant", "content": "A model."},
    {"role": "user", "content": "„Schön“, <b>so</b>?"},
)


@dataclass(frozen=True)
class Bench:
    """One engine under trial, and the wheel beside it."""

    request: LoadRequest  # that the runner was loaded with
    wheel: TextRunner
    runner: TextRunner
    deadline: float  # seconds that a slot may take to be free again
    baseline: Baseline
    alone: list[Answer] = field(default_factory=list)  # what it said itself to each text, when nobody else asked

    @property
    def texts(self) -> list[tuple[Text, Answer]]:
        """As many as there are slots, each with what the engine said to it alone."""
        return list(zip(self.baseline.texts, self.alone, strict=True))[: self.request.num_parallel]


@asynccontextmanager
async def within(seconds: float, reason: str) -> AsyncIterator[None]:
    """A deadline for what is done inside; raises EngineError with the reason."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise EngineError(f"{reason} within {seconds:g} seconds") from None


async def words(bench: Bench) -> None:
    """Texts are the same tokens, and conversations the same prompts."""
    for text in bench.baseline.texts:
        if await bench.runner.tokenize(text.content, add_special=True) != text.prompt:
            raise EngineError("it reads a text as other tokens")
        if await bench.runner.detokenize(text.prompt) != await bench.wheel.detokenize(text.prompt):
            raise EngineError("it writes tokens as another text")
    if bench.request.model.chat_template and await _chat(bench.runner) != await _chat(bench.wheel):
        raise EngineError("it makes another prompt of a conversation")


async def _chat(runner: TextRunner) -> str:
    """The prompt of a conversation, "" where the template does not take it."""
    with suppress(TemplateError):
        return await runner.apply_template(_MESSAGES, {})
    return ""


async def texts(bench: Bench) -> None:
    """Every text is the wheel's, and so are the log-probabilities behind prefixes of it."""
    for text in bench.baseline.texts:
        answer = await ask(bench.runner, text.request)
        bench.alone.append(answer)
        _require("", differs(text.answer.steps, answer.steps))
        if answer.text == text.answer.text and answer.usage.done_reason != text.answer.usage.done_reason:
            raise EngineError(f"it ends for the reason '{answer.usage.done_reason}', not '{text.answer.usage.done_reason}'")
        pairs = [(step, await next_step(bench.runner, place)) for place, step in zip(text.places, text.steps, strict=True)]
        known = [(one, other) for one, other in pairs if one and other]
        _require("", differs(*zip(*known, strict=True), is_one_text=False) if known else "")


async def conversation(bench: Bench) -> None:
    """What follows the engine's own answer, most of it in its cache, is gone on with as the wheel does."""
    for text, alone in zip(bench.baseline.texts, bench.alone, strict=True):
        await ask(bench.runner, text.request)
        ids = await bench.wheel.tokenize(text.content + alone.text + FOLLOW_UP, add_special=True)
        expected, actual = [await ask(each, greedy(ids, _NUM_FOLLOWING)) for each in (bench.wheel, bench.runner)]
        _require("behind its own answer", differs(expected.steps, actual.steps))


async def pictures(bench: Bench) -> None:
    """A model that sees pictures sees in them what it sees on the wheel."""
    if bench.request.model.projector is None:
        return
    asked = [greedy(f"{each.media_marker}\nWhat is it?", _NUM_SEEN) for each in (bench.wheel, bench.runner)]
    ours, theirs = [replace(each, images=(picture(),)) for each in asked]
    _require("behind a picture", differs((await ask(bench.wheel, ours)).steps, (await ask(bench.runner, theirs)).steps))


async def slots(bench: Bench) -> None:
    """With every slot at work each text is what it is alone: all begun at once, and one after the other without the cache."""
    _compare(bench, await together(*(ask(bench.runner, text.request) for text, _ in bench.texts)))
    turn = asyncio.Event()
    turn.set()
    staggered = []
    for text, _ in bench.texts:
        last, turn = turn, asyncio.Event()
        staggered.append(_ask_in_turn(bench.runner, replace(text.request, cache_prompt=False), last, turn))
    _compare(bench, await together(*staggered))


async def _ask_in_turn(runner: TextRunner, wanted: CompletionRequest, begin: asyncio.Event, begun: asyncio.Event) -> Answer:
    """Ask when the one before has got its first token."""
    await begin.wait()
    async with aclosing(runner.complete(wanted)) as stream:
        chunks = []
        async for chunk in stream:
            chunks.append(chunk)
            begun.set()
    return collect(chunks)


def _compare(bench: Bench, answers: Sequence[Answer]) -> None:
    for (_, alone), answer in zip(bench.texts, answers, strict=False):
        _require(f"with {bench.request.num_parallel} at once", differs(alone.steps, answer.steps))


async def leaving(bench: Bench) -> None:
    """Clients that leave, while others stay, free their slots, and what the others get stays right."""
    began = perf_counter()
    await ask(bench.runner, greedy(bench.baseline.long, 1, cache=False))
    part = (perf_counter() - began) / _PART
    for leave in (partial(_leave_reading, bench, part), partial(_leave_writing, bench)):
        others = [ask(bench.runner, text.request) for text, _ in bench.texts[:-1]]
        _compare(bench, [answer for answer in await together(leave(), *others) if answer])
    async with within(bench.deadline, "slots were not free again after their clients had left"):
        everybody = asyncio.Barrier(bench.request.num_parallel)
        await together(*(_leave_writing(bench, everybody) for _ in bench.texts))
        _compare(bench, [await ask(bench.runner, bench.texts[0][0].request)])


async def _leave_reading(bench: Bench, seconds: float) -> None:
    """Leave while the long prompt is read."""
    wanted = bench.baseline.endless(bench.baseline.long, cache=False)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), aclosing(bench.runner.complete(wanted)) as stream:
            await anext(stream)


async def _leave_writing(bench: Bench, everybody: asyncio.Barrier | None = None) -> None:
    """Leave a text without end after its first token; with a barrier, once everybody has got one."""
    wanted = bench.baseline.endless(bench.baseline.shortest[0])
    async with aclosing(bench.runner.complete(wanted)) as stream:
        await anext(stream)
        if everybody:
            await everybody.wait()


async def beyond(bench: Bench) -> None:
    """A text longer than the context goes on as the wheel's does, and says that it was shifted."""
    answer = await ask(bench.runner, bench.baseline.overflow())
    if bench.baseline.can_shift and not answer.usage.is_shifted:  # unless it has ended by itself
        forced = await ask(bench.runner, bench.baseline.overflow(bench.baseline.long))
        if not forced.usage.is_shifted:
            raise EngineError("it does not go on beyond its context")
    _require("beyond its context", differs(bench.baseline.beyond.steps, answer.steps))


async def drafts(bench: Bench) -> None:
    """Guesses are right at times and change no text: alone, with every slot at work, at its limit, beyond the context."""
    if not bench.request.flags.guesses:
        return
    wanted = [replace(each, num_predict=each.num_predict - number) for number, each in enumerate(bench.baseline.repeating)]
    wanted.append(bench.baseline.overflow())
    pairs = [await _guess(bench.runner, each) for each in wanted]
    if not any(guessed.usage.draft_accepted_count for _, guessed in pairs):
        raise EngineError("it guesses nothing right of a text that repeats itself")
    at_once = await together(*(ask(bench.runner, replace(each, logprobs=False)) for each in wanted))
    for (plain, alone), other in zip(pairs, at_once, strict=True):
        if departs(plain, alone) or departs(plain, other):
            raise EngineError("what it guesses changes the text")


async def _guess(runner: TextRunner, wanted: CompletionRequest) -> tuple[Answer, Answer]:
    """An answer without guesses and one with them, both to a prompt that is read already."""
    await ask(runner, replace(wanted, num_predict=1))
    plain = await ask(runner, wanted)
    if plain.usage.draft_count:
        raise EngineError("it tells no log-probabilities of what it guesses")
    return plain, await ask(runner, replace(wanted, logprobs=False))


def _require(where: str, difference: str) -> None:
    if difference:
        raise EngineError(f"{where} {difference}".strip())


TRIALS: dict[str, Callable[[Bench], Awaitable[None]]] = {  # by what they are called in a reason
    "tokens": words,
    "texts": texts,
    "conversation": conversation,
    "pictures": pictures,
    "slots": slots,
    "leaving clients": leaving,
    "long text": beyond,
    "drafts": drafts,
}
