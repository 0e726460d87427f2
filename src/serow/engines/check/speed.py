"""How fast an engine is, as its clients see it: by the clock, in turn with the wheel."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

from msgspec.structs import astuple

from serow.engines.base import CompletionRequest, TextRunner
from serow.engines.check.answers import greedy, together
from serow.engines.check.baseline import Baseline
from serow.engines.check.checks import Speeds
from serow.errors import EngineError

_NUM_STREAMS = 8
_NUM_DECODE = 24  # tokens of one stream
_NUM_TOGETHER = 12  # tokens of each of several


@dataclass(frozen=True)
class Race:
    """The speeds of the same minute."""

    wheel: Speeds
    engine: Speeds


@dataclass(frozen=True)
class _Course:
    """What both sides of a race are asked."""

    new: list[int]  # a prompt that neither has seen
    lasting: Sequence[list[int]]  # prompts of natural texts: a forced one repeats itself, which flatters who guesses
    repeating: CompletionRequest  # so one of these is measured beside them


@dataclass(frozen=True)
class _Run:
    """One answer: when its first token came, in seconds after the request."""

    first: float
    num_tokens: int


async def race(wheel: TextRunner, engine: TextRunner, baseline: Baseline, number: int) -> Race:
    """One round of each, with a prompt that neither has seen, and the texts that begin with the one of that number."""
    repeating = baseline.repeating
    course = _Course(baseline.new_prompt(), baseline.lasting(number), repeating[number % len(repeating)])
    return Race(await _round(wheel, course), await _round(engine, course))


def medians(races: Sequence[Race]) -> Race:
    """What several rounds come to."""
    return Race(_median([each.wheel for each in races]), _median([each.engine for each in races]))


def _median(rounds: Sequence[Speeds]) -> Speeds:
    return Speeds(*(median(column) for column in zip(*map(astuple, rounds), strict=True)))


async def _round(runner: TextRunner, course: _Course) -> Speeds:
    new = await _run(runner, greedy(course.new, 1))
    decode = await _decode(runner, greedy(course.lasting[0], _NUM_DECODE))
    repeat = await _decode(runner, course.repeating)
    wanted = [greedy(course.lasting[number % len(course.lasting)], _NUM_TOGETHER) for number in range(_NUM_STREAMS)]
    return Speeds(
        prompt=len(course.new) / new.first,
        decode=decode,
        repeat=repeat,
        together=await _decode(runner, *wanted),
    )


async def _decode(runner: TextRunner, *wanted: CompletionRequest) -> float:
    """Tokens a second of answers at once, to prompts that are read already."""
    await together(*(_run(runner, replace(each, num_predict=1)) for each in wanted))
    began = perf_counter()
    answers = await together(*(_run(runner, each) for each in wanted))
    return sum(answer.num_tokens for answer in answers) / (perf_counter() - began)


async def _run(runner: TextRunner, wanted: CompletionRequest) -> _Run:
    began, first, num_tokens = perf_counter(), 0.0, 0
    async with aclosing(runner.complete(replace(wanted, logprobs=False))) as stream:
        async for chunk in stream:
            first = first or perf_counter() - began
            num_tokens = chunk.num_tokens
    if num_tokens < min(wanted.num_predict, 2):
        raise EngineError(f"it ends after {num_tokens} of {wanted.num_predict} tokens")
    return _Run(first, num_tokens)
