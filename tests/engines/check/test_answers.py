"""When two answers are the same but for rounding."""

import asyncio
from typing import Literal

import pytest

from serow.engines.base import Usage
from serow.engines.check.answers import Answer, Step, departs, differs, distance, preference, together
from serow.errors import EngineDied

DEADLINE = 10.0  # seconds


def step(token: str, **candidates: float) -> Step:
    """A token and log-probabilities."""
    return Step(token.encode(), {each.encode(): value for each, value in candidates.items()})


A, NEARLY_A, NEARLY_B = step("a", a=-0.6, b=-0.9), step("a", a=-0.7, b=-0.8), step("b", a=-0.8, b=-0.7)
SURE_OF_A, SURE_OF_B = step("a", a=-0.1, b=-5.0), step("b", a=-5.0, b=-0.1)
END = step("", **{"": -0.1})


def test_the_distance_is_the_mean_over_what_was_expected_weighted_by_probability() -> None:
    assert distance(A, A) == 0
    assert distance(step("a", a=0.0), step("a", a=-0.5)) == 0.5
    assert distance(step("a", a=0.0, z=-50.0), step("a", a=0.0, z=-20.0)) == pytest.approx(0)


def test_a_token_that_is_not_told_has_the_least_of_those_that_are() -> None:
    assert distance(step("a", a=0.0), step("b", b=-0.1, c=-4.0)) == 4
    assert preference(step("a", a=0.0), step("b", b=-0.1, c=-4.0)) == pytest.approx(3.9)


SAME = [
    ([], []),
    ([A, A], [A, NEARLY_A]),
    ([A, SURE_OF_A], [NEARLY_B, SURE_OF_B]),  # behind a near tie everything may be different
    ([A, A, A], [NEARLY_B]),
    ([step("é", a=-0.1)], [step("è", b=-0.1)]),  # tokens inside a character are not told
]


@pytest.mark.parametrize(("expected", "actual"), SAME)
def test_rounding_is_no_difference(expected: list[Step], actual: list[Step]) -> None:
    assert differs(expected, actual) == ""


FLAT = step("j", **dict.fromkeys("abcdefghij", -2.3))
PREFERS_A = step("a", a=-1.1, **dict.fromkeys("bcdefghij", -2.4))
LESS_OF_BOTH = step("a", a=-1.2, b=-1.4)

OTHER = [
    ([A, SURE_OF_A], [A, SURE_OF_B], "the log-probabilities of token 2 are 4.47 nats away"),
    ([A] * 9, [LESS_OF_BOTH] * 9, "the log-probabilities of token 6 are 0.53 nats away"),  # too far in the mean
    ([FLAT], [PREFERS_A], "token 1 is another one, which is no near tie"),
    ([A, A], [A], "it tells of 1 tokens, not 2"),
    ([A], [A, A], "it tells of 2 tokens, not 1"),
    ([A, END], [A, A], "the log-probabilities of token 2 are 0.72 nats away"),
]


@pytest.mark.parametrize(("expected", "actual", "difference"), OTHER)
def test_a_difference_is_told_with_its_place(expected: list[Step], actual: list[Step], difference: str) -> None:
    assert differs(expected, actual) == difference


def test_steps_with_prompts_of_their_own_are_compared_to_the_last() -> None:
    expected, actual = [A, SURE_OF_A], [NEARLY_B, SURE_OF_B]
    assert differs(expected, actual) == ""
    assert differs(expected, actual, is_one_text=False) == "the log-probabilities of token 2 are 4.47 nats away"


def answer(text: str, *steps: Step, eval_count: int = 2, done_reason: Literal["stop", "length"] = "length") -> Answer:
    """A finished answer; the costs that nobody asks for are 0."""
    return Answer(text, steps, Usage(done_reason, 0, 0, 0, eval_count, 0, is_shifted=False))


@pytest.mark.parametrize(
    ("actual", "does"),
    [
        (answer("ab"), False),
        (answer("ac"), True),
        (answer("xb"), False),  # the first token is a near tie
        (answer("a"), True),
        (answer("abc"), True),
        (answer("ab", eval_count=3), True),
        (answer("ab", done_reason="stop"), True),
    ],
)
def test_an_answer_departs_where_it_leaves_the_other_one_at_no_near_tie(actual: Answer, does: bool) -> None:
    assert departs(answer("ab", A, SURE_OF_B), actual) is does


async def test_the_first_failure_of_several_ends_the_others() -> None:
    ended = asyncio.Event()

    async def fail() -> None:
        raise EngineDied("the engine ended with signal 9")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with asyncio.timeout(DEADLINE):
        with pytest.raises(EngineDied, match=r"^the engine ended with signal 9$"):
            await together(wait(), fail())
    assert ended.is_set()
