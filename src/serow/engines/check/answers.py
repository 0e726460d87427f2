"""Asking an engine for a text, and telling whether two answers are the same but for rounding."""

import asyncio
import math
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from serow.engines.base import Chunk, CompletionRequest, Logprob, TextRunner, Usage
from serow.errors import EngineError
from serow.options import Options

T = TypeVar("T")
_TOP = 20  # candidates for each token, as many as an engine tells

# How far apart kernels may be that compute the same in another order, or round activations in another way, in nats.
# Measured over SmolLM2-135M Q4_1, Qwen2.5-Coder-0.5B Q4_K_M and Gemma3-270M, eight texts each, against the wheel: the wheel
# without flash attention and llama.cpp for this CPU are up to 0.2 away at a token and 0.1 in the mean of a text, and
# ik_llama.cpp 0.3 and 0.2; each of them once 0.5, at a tie of 0.9. Engines that were wrong: one that left out the end of each
# row of the weights 1.0 and 0.5, one whose cache had a hole behind its own answer 0.5 to 4.8 at a token, one with keys and
# values of four bits 5.5 and 2.8.
_FARTHEST_TOKEN = 0.8
_FARTHEST_MEAN = 0.3
_NEAR_TIE = 1.2


@dataclass(frozen=True)
class Step:
    """One token, and the likeliest ones in its place with their log-probabilities; all as their bytes."""

    token: bytes  # of the whole character, where the token is its end
    candidates: dict[bytes, float]

    @property
    def least(self) -> float:
        """What a token that is not told has at most."""
        return min(self.candidates.values())


@dataclass(frozen=True)
class Answer:
    """A greedy text. A token inside a character has no step of its own."""

    text: str
    steps: tuple[Step, ...]
    usage: Usage


def greedy(
    prompt: Sequence[int] | str, num_predict: int, *, words: Sequence[int] = (), cache: bool = True
) -> CompletionRequest:
    """A greedy request; with `words`, token ids, for a text of these alone, so that it has no end before its limit."""
    options = Options(temperature=0.0, logit_bias=tuple((word, 1000.0) for word in sorted(set(words))))
    return CompletionRequest(prompt, options, num_predict, logprobs=True, top_logprobs=_TOP, cache_prompt=cache)


async def ask(runner: TextRunner, wanted: CompletionRequest) -> Answer:
    """The whole answer; raises what the engine fails with."""
    async with aclosing(runner.complete(wanted)) as stream:
        return collect([chunk async for chunk in stream])


def collect(chunks: Sequence[Chunk]) -> Answer:
    """The answer of all chunks."""
    if not chunks or chunks[-1].usage is None:
        raise EngineError("it broke off its answer")
    steps = tuple(_step(logprob) for chunk in chunks for logprob in (*chunk.logprobs, *chunk.withheld))
    return Answer("".join(chunk.text for chunk in chunks), steps, chunks[-1].usage)


async def together(*work: Coroutine[Any, Any, T]) -> list[T]:
    """All results; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def _step(logprob: Logprob) -> Step:
    candidates = {bytes(each.bytes): each.logprob for each in reversed(logprob.top_logprobs or ())}  # the likeliest stays
    return Step(bytes(logprob.bytes), candidates or {bytes(logprob.bytes): logprob.logprob})


def distance(expected: Step, actual: Step) -> float:
    """How far apart the log-probabilities are, in nats: the mean over the expected candidates, weighted by probability."""
    pairs = ((value, actual.candidates.get(token, actual.least)) for token, value in expected.candidates.items())
    return sum(math.exp(one) * abs(one - other) for one, other in pairs)


def preference(expected: Step, actual: Step) -> float:
    """By how many nats the token that was expected is less likely than the one that came."""
    return actual.candidates[actual.token] - actual.candidates.get(expected.token, actual.least)


def differs(expected: Sequence[Step], actual: Sequence[Step], *, is_one_text: bool = True) -> str:
    """In what they differ beyond rounding, in words; "" for nothing.

    Steps of one text are compared up to the first other token, behind which everything is different. Without `is_one_text`
    each step has its own prompt, the same on both sides.
    """
    total = 0.0
    for number, (one, other) in enumerate(zip(expected, actual, strict=False), 1):
        is_same = one.token == other.token
        if not is_same and not (one.token in one.candidates and other.token in other.candidates):
            return ""  # other tokens of one character: their places can't be compared
        total += (apart := distance(one, other))
        if apart > _FARTHEST_TOKEN or total > _FARTHEST_MEAN * len(expected):
            return f"the log-probabilities of token {number} are {apart:.2f} nats away"
        if not is_same and preference(one, other) > _NEAR_TIE:
            return f"token {number} is another one, which is no near tie"
        if not is_same and is_one_text:
            return ""
    return "" if len(expected) == len(actual) else f"it tells of {len(actual)} tokens, not {len(expected)}"


def departs(expected: Answer, actual: Answer) -> bool:
    """Whether an answer without log-probabilities leaves the expected one where that was no near tie, or ends otherwise."""
    if actual.text == expected.text:
        return (actual.usage.eval_count, actual.usage.done_reason) != (expected.usage.eval_count, expected.usage.done_reason)
    rest = actual.text.encode()
    for step in expected.steps:
        if not rest.startswith(step.token):
            first, *others = sorted(step.candidates.values(), reverse=True)
            return not others or first - others[0] > _NEAR_TIE
        rest = rest[len(step.token) :]
    return True
