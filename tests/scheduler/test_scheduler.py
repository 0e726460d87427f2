import asyncio

import pytest

from serow.errors import NotEnoughMemory, Unavailable
from serow.options import LoadOptions
from serow.scheduler.resident import Demand
from tests.scheduler.machine import GIB, LOAD_TIME, MIB, Machine, Request, model
from tests.scheduler.virtual import settle, virtual_time

A, B, C = model("a"), model("b"), model("c")


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
    async with Machine().scheduler() as scheduler, scheduler.lease(Demand(A, LoadOptions(num_ctx=1000)), None) as lease:
        assert (lease.num_ctx, lease.num_parallel) == (1024, 8)


@virtual_time
async def test_loading_one_model_does_not_hold_up_another() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        await (await Request(scheduler, A).begun()).end()
        machine.load_time = 100.0
        slow = Request(scheduler, B)
        async with asyncio.timeout(1), scheduler.lease(Demand(A, LoadOptions()), None):
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


@virtual_time
async def test_who_wants_to_be_alone_waits_for_the_others_and_they_for_it() -> None:
    async with Machine().scheduler(num_parallel=4) as scheduler:
        before, alone, behind = Request(scheduler, A), Request(scheduler, A, alone=True), Request(scheduler, A)
        await before.begun()
        await settle()
        assert not alone.is_running
        await before.end()
        await alone.begun()
        assert not behind.is_running
        await alone.end()
        await behind.begun()
        await behind.end()


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
async def test_a_client_that_fills_the_queue_gives_way_to_others_that_wait_less() -> None:
    async with Machine().scheduler(num_parallel=1, max_queue=3) as scheduler:
        greedy = [Request(scheduler, A, client="greedy") for _ in range(4)]  # one runs, three wait
        await greedy[0].begun()
        modest = [Request(scheduler, A, client="modest") for _ in range(2)]
        with pytest.raises(Unavailable, match="queue is full"):
            await greedy[3].begun()
        with pytest.raises(Unavailable, match="queue is full"):
            await modest[1].begun()
        for request in (greedy[0], greedy[1], modest[0], greedy[2]):
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
