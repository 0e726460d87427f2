"""What the scheduler counts for /metrics."""

import pytest

from serow.errors import LoadError
from tests.scheduler.machine import GIB, LOAD_TIME, Machine, Request, model
from tests.scheduler.virtual import settle, virtual_time

A, B = model("a"), model("b")


@virtual_time
async def test_a_load_counts_once_however_many_wait_for_it() -> None:
    async with Machine().scheduler() as scheduler:
        for request in [Request(scheduler, A) for _ in range(3)]:
            await (await request.begun()).end()
        assert scheduler.counts.loads == {"a:latest": 1}
        assert scheduler.counts.load_seconds["a:latest"] == pytest.approx(LOAD_TIME)


@virtual_time
async def test_a_load_that_fails_counts_as_such() -> None:
    machine = Machine()
    machine.load_errors = [LoadError("broken")]
    async with machine.scheduler() as scheduler:
        with pytest.raises(LoadError):
            await Request(scheduler, A).begun()
        await settle()
        assert (scheduler.counts.loads, scheduler.counts.load_failures) == ({}, {"a:latest": 1})


@virtual_time
async def test_a_model_that_makes_room_counts_as_evicted_and_not_as_dead() -> None:
    async with Machine(memory=2 * GIB).scheduler() as scheduler:
        await (await Request(scheduler, A).begun()).end()
        await (await Request(scheduler, B).begun()).end()
        assert (scheduler.counts.evictions, scheduler.counts.deaths) == ({"a:latest": 1}, {})


@virtual_time
async def test_an_engine_that_died_counts_when_it_is_noticed() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        await (await Request(scheduler, A).begun()).end()
        machine.engines[0].is_alive = False
        await (await Request(scheduler, A).begun()).end()
        assert (scheduler.counts.deaths, scheduler.counts.loads) == ({"a:latest": 1}, {"a:latest": 2})


@virtual_time
async def test_those_who_wait_are_counted_while_they_wait() -> None:
    async with Machine().scheduler(num_parallel=1) as scheduler:
        running = await Request(scheduler, A).begun()
        waiting = Request(scheduler, A)
        await settle()
        assert scheduler.num_waiting == 1
        await running.end()
        await (await waiting.begun()).end()
        assert scheduler.num_waiting == 0
