"""How fast an engine is, as its clients see it: by the clock, in turn with the wheel."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

from serow.engines.answers import greedy, together
from serow.engines.baseline import Baseline
from serow.engines.checks import Speeds
from serow.errors import EngineError
from serow.runner.base import TextRunner

_NUM_STREAMS = 8
_NUM_DECODE = 24  # tokens of one stream
_NUM_TOGETHER = 12  # tokens of each of several


@dataclass(frozen=True)
class Race:
    """The speeds of the same minute."""

    wheel: Speeds
    engine: Speeds


@dataclass(frozen=True)
class _Run:
    """One answer: when its first and its last token came, in seconds after the request."""

    first: float
    last: float
    num_tokens: int


async def race(wheel: TextRunner, engine: TextRunner, baseline: Baseline, number: int) -> Race:
    """One round of each, with a prompt that neither has seen, and the texts that begin with the one of that number."""
    prompt, others = baseline.new_prompt(), baseline.lasting(number)
    return Race(await _round(wheel, prompt, others), await _round(engine, prompt, others))


def medians(races: Sequence[Race]) -> Race:
    """What several rounds come to."""
    return Race(_median([each.wheel for each in races]), _median([each.engine for each in races]))


def _median(rounds: Sequence[Speeds]) -> Speeds:
    return Speeds(
        prompt=median(each.prompt for each in rounds),
        decode=median(each.decode for each in rounds),
        together=median(each.together for each in rounds),
    )


async def _round(runner: TextRunner, prompt: list[int], others: Sequence[list[int]]) -> Speeds:
    new, _ = await _run(runner, prompt, 1), await _run(runner, others[0], 1)  # the other one to have its prompt read
    one = await _run(runner, others[0], _NUM_DECODE)
    began = perf_counter()
    streams = [_run(runner, others[number % len(others)], _NUM_TOGETHER) for number in range(_NUM_STREAMS)]
    num_tokens = sum(stream.num_tokens for stream in await together(*streams))
    return Speeds(
        prompt=len(prompt) / new.first,
        decode=one.num_tokens / one.last,
        together=num_tokens / (perf_counter() - began),
    )


async def _run(runner: TextRunner, prompt: Sequence[int], num_predict: int) -> _Run:
    """Time a natural text: one that is forced to be long would repeat itself, which flatters engines that guess ahead."""
    began, times, num_tokens = perf_counter(), [], 0
    async with aclosing(runner.complete(replace(greedy(prompt, num_predict), logprobs=False))) as stream:
        async for chunk in stream:
            times.append(perf_counter() - began)
            num_tokens = chunk.num_tokens
    if num_tokens < min(num_predict, 2):
        raise EngineError(f"it ends after {num_tokens} of {num_predict} tokens")
    return _Run(times[0], times[-1], num_tokens)
