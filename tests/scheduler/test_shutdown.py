"""The end of the server."""

import asyncio

import pytest

from serow.errors import Unavailable
from tests.scheduler.machine import Machine, Request, model
from tests.scheduler.virtual import settle, virtual_time

A, B = model("a"), model("b")


@pytest.mark.req("LIFE-07")
@virtual_time
async def test_after_stop_there_is_no_new_work_and_leases_go_on() -> None:
    machine = Machine()
    async with machine.scheduler(num_parallel=1) as scheduler:
        running = await Request(scheduler, A).begun()
        waiting, loading = Request(scheduler, A), Request(scheduler, B)
        await settle()
        scheduler.stop()
        for request in (waiting, loading, Request(scheduler, A)):
            with pytest.raises(Unavailable, match="shutting down"):
                await request.begun()
        assert machine.loaded == ["a"]
        await running.end()
        await settle()
        assert machine.loaded == []


@pytest.mark.req("LIFE-07")
@pytest.mark.parametrize(("needs", "is_finished"), [(5.0, True), (50.0, False)])
@virtual_time
async def test_closing_waits_for_leases_within_the_grace_time(needs: float, is_finished: bool) -> None:
    machine = Machine()
    clock = asyncio.get_running_loop().time
    async with machine.scheduler(grace=10.0) as scheduler:
        request = await Request(scheduler, A).begun()
        asyncio.get_running_loop().call_later(needs, request.ending.set)
        begun = clock()
    assert clock() - begun == pytest.approx(min(needs, 10.0))
    assert machine.engines[0].is_closed
    await settle()
    assert request.task.done() is is_finished
    await request.leave()


@pytest.mark.req("LIFE-07")
@virtual_time
async def test_closing_ends_loads_at_once() -> None:
    machine = Machine()
    machine.load_time = 100.0
    async with machine.scheduler() as scheduler:
        request = Request(scheduler, A)
        await settle()
    assert asyncio.get_running_loop().time() < 1
    assert machine.engines[0].is_closed
    with pytest.raises(Unavailable):
        await request.begun()


@pytest.mark.req("LIFE-07")
@virtual_time
async def test_closing_is_finished_also_when_it_is_cancelled() -> None:
    machine = Machine()
    machine.close_time = 3.0

    async def serve() -> None:
        async with machine.scheduler(grace=100.0) as scheduler:
            request = await Request(scheduler, A).begun()
            closing.set()
        assert request is None, "closing was not cancelled"

    closing = asyncio.Event()
    server = asyncio.create_task(serve())
    await closing.wait()
    await settle()
    server.cancel()
    await asyncio.wait({server})
    assert server.cancelled()
    assert machine.engines[0].is_closed
