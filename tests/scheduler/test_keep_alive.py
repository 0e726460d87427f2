"""How long a model stays, and how it is sent away."""

import asyncio
import math
from datetime import UTC, datetime, timedelta

import pytest

from tests.scheduler.machine import GIB, Machine, Request, model, names
from tests.scheduler.virtual import settle, virtual_time

A, B, C = model("a"), model("b"), model("c")


@pytest.mark.req("GEN-05")
@pytest.mark.parametrize(("keep_alive", "stays"), [(None, 300.0), (10.0, 10.0), (0.5, 0.5)])
@virtual_time
async def test_a_model_stays_for_its_keep_alive_after_the_last_request(keep_alive: float | None, stays: float) -> None:
    async with Machine().scheduler() as scheduler:
        first, last = Request(scheduler, A, keep_alive=keep_alive), Request(scheduler, A)
        await (await first.begun()).end()
        await asyncio.sleep(1000)
        await last.end()
        await asyncio.sleep(stays - 0.1)
        assert names(scheduler) == ["a"]
        await asyncio.sleep(0.2)
        assert names(scheduler) == []


@pytest.mark.req("GEN-05")
@virtual_time
async def test_keep_alive_0_unloads_after_the_request() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        await (await Request(scheduler, A, keep_alive=0).begun()).end()
        await settle()
        assert machine.engines[0].is_closed


@pytest.mark.req("GEN-05")
@virtual_time
async def test_keep_alive_0_serves_those_who_wait_before_it_unloads() -> None:
    machine = Machine()
    async with machine.scheduler(num_parallel=1) as scheduler:
        first, second = Request(scheduler, A, keep_alive=0), Request(scheduler, A)
        await (await first.begun()).end()
        await (await second.begun()).end()
        await settle()
        assert len(machine.engines) == 1
        assert machine.engines[0].is_closed


@pytest.mark.req("GEN-05")
@virtual_time
async def test_a_request_without_keep_alive_keeps_the_duration_and_restarts_the_clock() -> None:
    async with Machine().scheduler() as scheduler:
        await (await Request(scheduler, A, keep_alive=60).begun()).end()
        await asyncio.sleep(50)
        await (await Request(scheduler, A).begun()).end()
        await asyncio.sleep(50)
        assert names(scheduler) == ["a"]
        await asyncio.sleep(11)
        assert names(scheduler) == []


@pytest.mark.req("GEN-05")
@virtual_time
async def test_a_model_does_not_expire_under_a_request() -> None:
    machine = Machine()
    async with machine.scheduler(keep_alive=10.0) as scheduler:
        await (await Request(scheduler, A).begun()).end()
        long = await Request(scheduler, A).begun()
        await asyncio.sleep(100)
        await (await Request(scheduler, A).begun()).end()
        assert len(machine.engines) == 1
        await long.end()


@pytest.mark.req("GEN-05")
@virtual_time
async def test_for_ever_is_told_as_292_years() -> None:
    async with Machine().scheduler() as scheduler:
        await (await Request(scheduler, A, keep_alive=math.inf).begun()).end()
        await asyncio.sleep(1000)
        left = scheduler.loaded()[0].expires_at - datetime.now(UTC)
        assert left.days // 365.25 == 292


@virtual_time
async def test_loaded_tells_the_longest_to_stay_first() -> None:
    async with Machine().scheduler() as scheduler:
        for wanted, keep_alive in ((A, 60.0), (B, math.inf), (C, 600.0)):
            await (await Request(scheduler, wanted, keep_alive=keep_alive).begun()).end()
        assert names(scheduler) == ["b", "c", "a"]
        last = scheduler.loaded()[-1]
        assert (last.size, last.size_vram, last.request.options.num_ctx, last.pid) == (GIB, 0, 4096, 1)
        assert timedelta(seconds=50) < last.expires_at - datetime.now(UTC) <= timedelta(seconds=60)


@pytest.mark.req("GEN-03")
@virtual_time
async def test_an_unload_waits_for_requests_in_flight() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        request = await Request(scheduler, A).begun()
        unload = asyncio.create_task(scheduler.unload(A))
        await asyncio.sleep(100)
        assert not unload.done()
        await request.end()
        await unload
        assert machine.engines[0].is_closed


@pytest.mark.req("GEN-03")
@virtual_time
async def test_unloading_what_is_not_loaded_is_fine() -> None:
    async with Machine().scheduler() as scheduler:
        await scheduler.unload(A)
        assert names(scheduler) == []


@pytest.mark.req("GEN-03")
@virtual_time
async def test_an_unload_while_it_loads_lets_who_waits_for_the_load_run_first() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        request = Request(scheduler, A)
        await settle()
        unload = asyncio.create_task(scheduler.unload(A))
        await (await request.begun()).end()
        await unload
        assert machine.engines[0].is_closed


@virtual_time
async def test_forget_unloads_without_waiting() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        old = await Request(scheduler, A).begun()
        scheduler.forget(A)
        new = Request(scheduler, A)
        await old.end()
        await new.begun()
        assert len(machine.engines) == 2
        await new.end()
