import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from serow.errors import EngineDied
from serow.inference.ask import Ask, Raw
from serow.inference.choices import AT_ONCE, choices
from serow.inference.events import Delta, Done, Event

DEADLINE = 5.0  # seconds


def asks(number: int) -> list[Ask]:
    return [Ask(model="m", prompt=Raw(str(each))) for each in range(number)]


def number_of(ask: Ask) -> int:
    assert isinstance(ask.prompt, Raw) and isinstance(ask.prompt.prompt, str)
    return int(ask.prompt.prompt)


@pytest.mark.req("OAI-07")
async def test_choices_run_together_and_their_events_are_told_apart() -> None:
    both = asyncio.Barrier(2)

    async def answer(ask: Ask) -> AsyncGenerator[Event, None]:
        for piece in "abc":
            await both.wait()  # neither goes on without the other
            yield Delta(f"{piece}{number_of(ask)}")
        yield Done(reason="stop")

    async with asyncio.timeout(DEADLINE):
        found = [chosen async for chosen in choices(asks(2), answer)]
    for index in (0, 1):
        assert [event for number, event in found if number == index] == [
            *(Delta(f"{piece}{index}") for piece in "abc"),
            Done(reason="stop"),
        ]
    assert {number for number, _ in found[:2]} == {0, 1}


@pytest.mark.req("OAI-07")
@pytest.mark.parametrize("number", [1, 3])
async def test_the_first_failure_ends_all(number: int) -> None:
    ended = []

    async def answer(ask: Ask) -> AsyncGenerator[Event, None]:
        try:
            yield Delta("x")
            if number_of(ask) == number - 1:
                raise EngineDied("it died")
            await asyncio.Event().wait()
        finally:
            ended.append(number_of(ask))

    async with asyncio.timeout(DEADLINE):
        with pytest.raises(EngineDied):
            _ = [chosen async for chosen in choices(asks(number), answer)]
    assert sorted(ended) == list(range(number))


@pytest.mark.req("LIFE-05")
async def test_a_reader_that_leaves_ends_all() -> None:
    ended = []

    async def answer(ask: Ask) -> AsyncGenerator[Event, None]:
        try:
            while True:
                yield Delta("x")
                await asyncio.sleep(0)
        finally:
            ended.append(number_of(ask))

    async with asyncio.timeout(DEADLINE), aclosing(choices(asks(3), answer)) as events:
        async for number, _ in events:
            if number == 2:
                break
    assert sorted(ended) == [0, 1, 2]


async def test_one_request_takes_only_so_many_places_at_once() -> None:
    running, most = 0, 0

    async def answer(ask: Ask) -> AsyncGenerator[Event, None]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1
        yield Done(reason="stop")

    async with asyncio.timeout(DEADLINE):
        found = [number async for number, _ in choices(asks(50), answer)]
    assert (sorted(found), most) == (list(range(50)), AT_ONCE)
