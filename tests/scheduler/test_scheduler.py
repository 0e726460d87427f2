import asyncio
import math
from datetime import UTC, datetime, timedelta

import pytest

from serow.api.types import LoadOptions
from serow.errors import EngineDied, LoadError, NotEnoughMemory, Unavailable
from serow.scheduler.scheduler import Scheduler
from tests.scheduler.machine import GIB, LOAD_TIME, MIB, Machine, Request, model
from tests.scheduler.virtual import settle, virtual_time

A, B, C = model("a"), model("b"), model("c")


def names(scheduler: Scheduler) -> list[str]:
    return [loaded.model.name.model for loaded in scheduler.loaded()]


@pytest.mark.req("LIFE-01")
@virtual_time
async def test_first_requests_at_the_same_time_share_one_load() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        requests = [Request(scheduler, A) for _ in range(8)]
        leases = [(await request.begun()).lease for request in requests]
        assert len(machine.engines) == 1
        assert {lease.runner for lease in leases if lease} == {machine.engines[0]}
        await asyncio.gather(*(request.end() for request in requests))


@virtual_time
async def test_a_lease_says_what_it_holds() -> None:
    async with Machine().scheduler() as scheduler, scheduler.lease(A, LoadOptions(num_ctx=1000), None) as lease:
        assert (lease.num_ctx, lease.num_parallel) == (1024, 8)


@virtual_time
async def test_loading_one_model_does_not_hold_up_another() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        await (await Request(scheduler, A).begun()).end()
        machine.load_time = 100.0
        slow = Request(scheduler, B)
        async with asyncio.timeout(1), scheduler.lease(A, LoadOptions(), None):
            assert not slow.is_running
        await slow.leave()


@pytest.mark.req("LIFE-02")
@virtual_time
async def test_num_parallel_run_and_the_rest_wait_in_order() -> None:
    async with Machine().scheduler(num_parallel=2) as scheduler:
        requests = [Request(scheduler, A) for _ in range(4)]
        await requests[0].begun()
        await settle()
        assert [request.is_running for request in requests] == [True, True, False, False]
        assert (scheduler.loaded()[0].num_running, scheduler.loaded()[0].num_waiting) == (2, 2)
        await requests[1].end()
        await requests[2].begun()
        assert not requests[3].is_running
        for request in requests:
            await request.end()


@pytest.mark.req("LIFE-02")
@virtual_time
async def test_clients_take_turns() -> None:
    async with Machine().scheduler(num_parallel=1) as scheduler:
        first = await Request(scheduler, A, client="x").begun()
        greedy = [Request(scheduler, A, client="x") for _ in range(3)]
        modest = Request(scheduler, A, client="y")
        await settle()
        await first.end()
        await greedy[0].begun()
        await greedy[0].end()
        await modest.begun()
        assert [request.is_running for request in greedy] == [False, False, False]
        for request in (modest, *greedy):
            await request.end()


@pytest.mark.req("LIFE-02", "RES-05")
@virtual_time
async def test_more_than_max_queue_waiting_is_refused_at_once() -> None:
    async with Machine().scheduler(num_parallel=1, max_queue=2) as scheduler:
        requests = [Request(scheduler, A) for _ in range(8)]
        for request in requests[3:]:
            with pytest.raises(Unavailable, match="queue is full"):
                await request.begun()
        for request in requests[:3]:
            await (await request.begun()).end()


@pytest.mark.req("LIFE-02")
@virtual_time
async def test_the_queue_is_bounded_over_all_models() -> None:
    async with Machine().scheduler(num_parallel=1, max_queue=2) as scheduler:
        running = [Request(scheduler, wanted) for wanted in (A, B)]
        waiting = [Request(scheduler, wanted) for wanted in (A, B)]
        with pytest.raises(Unavailable):
            await Request(scheduler, A).begun()
        for request in running + waiting:
            await (await request.begun()).end()


@pytest.mark.req("LIFE-03")
@virtual_time
async def test_a_larger_context_loads_anew_after_the_requests_in_flight() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        small = await Request(scheduler, A).begun()
        large = Request(scheduler, A, options=LoadOptions(num_ctx=8192))
        await asyncio.sleep(10 * LOAD_TIME)
        assert len(machine.engines) == 1
        assert machine.engines[0].is_alive
        await small.end()
        await large.begun()
        assert machine.engines[0].is_closed
        assert large.lease is not None
        assert large.lease.num_ctx == 8192
        await large.end()


@pytest.mark.req("LIFE-03")
@virtual_time
async def test_who_comes_after_a_reload_was_asked_for_gets_the_new_one() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        before = await Request(scheduler, A).begun()
        larger = Request(scheduler, A, options=LoadOptions(num_ctx=8192))
        after = Request(scheduler, A)
        await settle()
        await before.end()
        await after.begun()
        await larger.begun()
        assert len(machine.engines) == 2
        await asyncio.gather(larger.end(), after.end())


@pytest.mark.req("LIFE-02", "LIFE-03")
@virtual_time
async def test_requests_that_each_want_other_options_are_bounded_by_the_queue() -> None:
    machine = Machine()
    async with machine.scheduler(max_queue=2) as scheduler:
        requests = [Request(scheduler, A, options=LoadOptions(num_thread=1 + number % 2)) for number in range(20)]
        await settle()
        refused = [request for request in requests if request.task.done()]
        assert len(refused) == 17
        for request in requests:
            if request not in refused:
                await (await request.begun()).end()
        assert len(machine.engines) == 3


@pytest.mark.req("LIFE-04")
@virtual_time
async def test_the_least_recently_used_idle_model_leaves_when_memory_does_not_suffice() -> None:
    machine = Machine(memory=3 * GIB)
    async with machine.scheduler(num_parallel=1) as scheduler:
        for wanted in (A, B, A):
            await (await Request(scheduler, wanted).begun()).end()
            await asyncio.sleep(1)
        await (await Request(scheduler, C).begun()).end()
        assert sorted(machine.loaded) == ["a", "c"]


@pytest.mark.req("LIFE-04")
@virtual_time
async def test_a_busy_model_leaves_after_its_requests_and_is_not_fed_new_ones_meanwhile() -> None:
    machine = Machine(memory=2 * GIB)
    async with machine.scheduler() as scheduler:
        busy = await Request(scheduler, A).begun()
        other = Request(scheduler, B)
        await settle()
        late = Request(scheduler, A)
        await asyncio.sleep(10)
        assert machine.loaded == ["a"]
        assert not late.is_running
        await busy.end()
        await other.begun()
        assert machine.loaded == ["b"]
        await other.end()
        await late.begun()
        assert machine.loaded == ["a"]
        await late.end()


@pytest.mark.req("LIFE-04")
@pytest.mark.parametrize(
    ("size", "memory", "sizes"),
    [(7 * GIB, 2 * GIB, ("7.1 GiB", "2.0 GiB")), (200 * MIB, 3 << 10, ("268.0 MiB", "3.0 KiB")), (0, 0, ("68.0 MiB", "0 B"))],
)
@virtual_time
async def test_a_model_too_large_for_the_machine_says_both_sizes(size: int, memory: int, sizes: tuple[str, str]) -> None:
    async with Machine(memory).scheduler(context_length=256) as scheduler:
        with pytest.raises(NotEnoughMemory) as caught:
            await Request(scheduler, model("a", size)).begun()
    assert str(caught.value) == f"model requires more system memory ({sizes[0]}) than is available ({sizes[1]})"


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
        assert (last.size, last.size_vram, last.context_length, last.pid) == (GIB, 0, 4096, 1)
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


@pytest.mark.req("LIFE-06")
@virtual_time
async def test_the_request_after_an_engine_died_loads_it_anew() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        await (await Request(scheduler, A).begun()).end()
        machine.engines[0].is_alive = False
        assert names(scheduler) == []
        await (await Request(scheduler, A).begun()).end()
        assert [engine.is_closed for engine in machine.engines] == [True, False]


@pytest.mark.req("LIFE-06")
@virtual_time
async def test_a_request_that_finds_its_engine_dead_is_believed_before_the_process_is_reaped() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        with pytest.raises(EngineDied):
            async with scheduler.lease(A, LoadOptions(), None):
                raise EngineDied("the engine ended with signal 9")
        await (await Request(scheduler, A).begun()).end()
        assert [engine.is_closed for engine in machine.engines] == [True, False]


@pytest.mark.req("LIFE-06")
@virtual_time
async def test_a_request_that_lingers_on_a_dead_engine_does_not_hold_up_the_next_load() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        lingering = await Request(scheduler, A).begun()
        machine.engines[0].is_alive = False
        await (await Request(scheduler, A).begun()).end()
        await lingering.end()
        assert machine.loaded == ["a"]


@pytest.mark.req("LIFE-06")
@virtual_time
async def test_all_who_waited_for_an_engine_that_died_get_places_in_the_next() -> None:
    machine = Machine()
    async with machine.scheduler(num_parallel=8) as scheduler:
        lingering = [await Request(scheduler, A).begun() for _ in range(8)]
        waiting = [Request(scheduler, A) for _ in range(8)]
        await settle()
        machine.engines[0].is_alive = False
        await lingering[0].end()
        await asyncio.gather(*(request.begun() for request in waiting))
        await asyncio.gather(*(request.end() for request in lingering + waiting))


@pytest.mark.req("LIFE-06")
@virtual_time
async def test_all_who_share_a_load_that_fails_get_its_error() -> None:
    machine = Machine()
    machine.load_errors = [LoadError("the model is broken")]
    async with machine.scheduler() as scheduler:
        requests = [Request(scheduler, A) for _ in range(3)]
        for request in requests:
            with pytest.raises(LoadError, match="the model is broken"):
                await request.begun()
        await (await Request(scheduler, A).begun()).end()
    assert all(engine.is_closed for engine in machine.engines)


@pytest.mark.req("LIFE-06")
@virtual_time
async def test_repeated_deaths_while_loading_back_off_and_report() -> None:
    machine = Machine()
    machine.load_errors = [EngineDied("the engine ended with signal 9")] * 3
    async with machine.scheduler() as scheduler:
        for _ in range(10):
            with pytest.raises(EngineDied, match="signal 9"):
                await Request(scheduler, A).begun()
        assert len(machine.engines) == 2
        await asyncio.sleep(60)
        with pytest.raises(EngineDied):
            await Request(scheduler, A).begun()
        await asyncio.sleep(60)
        await (await Request(scheduler, A).begun()).end()


@virtual_time
async def test_a_load_that_succeeds_ends_the_pauses() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        for _ in range(2):
            machine.load_errors = [LoadError("the model is broken")]
            with pytest.raises(LoadError):
                await Request(scheduler, A).begun()
            await (await Request(scheduler, A, keep_alive=0).begun()).end()
            await settle()


@virtual_time
async def test_a_fault_of_ours_while_loading_fails_the_request_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        machine.load_errors = [ZeroDivisionError()]
        with pytest.raises(LoadError, match="could not be loaded"):
            await Request(scheduler, A).begun()
        await (await Request(scheduler, A).begun()).end()
    assert "the task of an engine failed" in caplog.text


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
