"""A conversation costs in proportion to its length, however it is made."""

import time
from collections.abc import Callable

import pytest

from serow.gotemplate import parse
from serow.gotemplate.budget import Budget
from serow.inference.ask import ToolCall
from serow.prompt import go
from serow.prompt.folding import folded, is_placed
from serow.prompt.jinja import LargeNumbers, messages_of
from serow.prompt.turns import Turn, Waiting

Make = Callable[[int], None]


def results(number: int, turn: Turn, calls: list[ToolCall]) -> None:
    waiting = Waiting(calls)
    for _ in range(number):
        waiting.take(turn)


def answered_by_strangers(number: int) -> None:
    results(number, Turn("tool", tool_name="nobody"), [ToolCall("f")] * number)


def answered_by_id(number: int) -> None:
    waiting = Waiting([ToolCall("f", id=str(place)) for place in range(number)])
    for place in reversed(range(number)):
        found = waiting.take(Turn("tool", tool_call_id=str(place)))
        assert found is not None and found.id == str(place)


def answered_in_order(number: int) -> None:
    results(number, Turn("tool"), [ToolCall("f")] * number)


def many_calls(number: int) -> None:
    turns = [Turn("assistant", tool_calls=(ToolCall("f"),) * number), *[Turn("tool")] * number]
    messages_of(turns)


def said_in_a_row(number: int) -> None:
    folded([Turn("user", "x" * 100), *[Turn("system", "y" * 100)] * number])


def said_in_a_row_for_go(number: int) -> None:
    go.render(parse("{{ len .Messages }}"), [Turn("user", "x" * 100)] * number, None, (), Budget())


def large_numbers(number: int) -> None:
    large = LargeNumbers()
    text = large.spare(f"[{','.join(['12345678901234567890'] * number)}]")
    assert large.put_back(text).count("12345678901234567890") == number


def never_shown(number: int) -> None:
    is_placed("x" * number * 100, [Turn("user", "a"), *[Turn("user", "nothing")] * number, Turn("system", "x")])


@pytest.mark.parametrize(
    "make",
    [
        answered_by_strangers,
        answered_by_id,
        answered_in_order,
        many_calls,
        said_in_a_row,
        said_in_a_row_for_go,
        large_numbers,
        never_shown,
    ],
)
def test_ten_times_as_much_takes_about_ten_times_as_long(make: Make) -> None:
    few, many = (seconds(make, number) for number in (2_000, 20_000))
    assert many < max(0.1, 40 * few)


def seconds(make: Make, number: int) -> float:
    """The least CPU time of three."""
    times = []
    for _ in range(3):
        begun = time.thread_time()
        make(number)
        times.append(time.thread_time() - begun)
    return min(times)


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (Turn("tool"), 0),
        (Turn("tool", tool_name="g"), 1),
        (Turn("tool", tool_name="h"), None),
        (Turn("tool", tool_call_id="two"), 0),
        (Turn("tool", tool_call_id="none"), 0),
        (Turn("tool", tool_call_id="none", tool_name="g"), 1),
        (Turn("tool", tool_call_id="two", tool_name="f"), 0),
        (Turn("tool", tool_call_id="none", tool_name="i"), None),
    ],
)
def test_a_result_answers_the_first_call_that_it_may(turn: Turn, expected: int | None) -> None:
    calls = [ToolCall("f", "0"), ToolCall("g", "1"), ToolCall("i", "2", id="two"), ToolCall("f", "3")]
    waiting = Waiting(calls)
    assert waiting.take(turn) == (None if expected is None else calls[expected])
    if expected is not None:
        assert waiting.take(turn) is not calls[expected]
