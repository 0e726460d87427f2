"""The watchdog in virtual time."""

import asyncio
import math

import pytest

from serow.engines.watchdog import Watchdog
from tests.scheduler.virtual import virtual_time

pytestmark = pytest.mark.req("LIFE-06")


class Dog(Watchdog):
    """A watchdog of ten seconds that remembers when it barked."""

    def __init__(self, limit: float = 10.0) -> None:
        self.barks: list[float] = []
        super().__init__(limit, lambda: self.barks.append(asyncio.get_running_loop().time()))


async def work(dog: Dog, seconds: float) -> None:
    with dog:
        await asyncio.sleep(seconds)


@virtual_time
async def test_work_without_progress_is_a_stall_after_the_limit() -> None:
    dog = Dog()
    await work(dog, 100)
    assert dog.barks == [pytest.approx(10)]


@virtual_time
async def test_without_work_there_is_no_stall() -> None:
    dog = Dog()
    await asyncio.sleep(100)
    await work(dog, 9)
    assert dog.barks == []


@virtual_time
async def test_progress_of_one_request_counts_for_all() -> None:
    dog = Dog()
    async with asyncio.TaskGroup() as group:
        group.create_task(work(dog, 50))
        for _ in range(10):
            await work(dog, 5)
            dog.progress()
    assert dog.barks == []


@virtual_time
async def test_silence_adds_up_over_clients_that_do_not_wait_for_it() -> None:
    dog = Dog()
    for _ in range(4):
        await work(dog, 3)
        await asyncio.sleep(100)
    assert len(dog.barks) == 1


@virtual_time
async def test_a_limit_that_is_for_ever_is_none() -> None:
    dog = Dog(math.inf)
    await work(dog, 3000)
    assert dog.barks == []
