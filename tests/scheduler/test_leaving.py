"""Clients that go away at any moment, and what they must not take with them (LIFE-05)."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serow.errors import LoadError, Unavailable
from serow.options import LoadOptions
from serow.scheduler.resident import Demand
from serow.scheduler.scheduler import Scheduler
from tests.scheduler.machine import GIB, LOAD_TIME, Machine, Request, model
from tests.scheduler.virtual import settle, virtual_time

A, B = model("a"), model("b")


@pytest.mark.req("LIFE-05")
@virtual_time
async def test_who_leaves_the_queue_frees_its_place_in_it() -> None:
    async with Machine().scheduler(num_parallel=1, max_queue=1) as scheduler:
        running = await Request(scheduler, A).begun()
        gone = Request(scheduler, A)
        await settle()
        await gone.leave()
        next_one = Request(scheduler, A)
        await settle()
        await running.end()
        await (await next_one.begun()).end()


@pytest.mark.req("LIFE-05")
@virtual_time
async def test_who_leaves_while_loading_frees_its_place_in_the_model() -> None:
    machine = Machine()
    async with machine.scheduler(num_parallel=1) as scheduler:
        loading, waiting = Request(scheduler, A), Request(scheduler, A)
        await settle()
        await loading.leave()
        await (await waiting.begun()).end()
        assert len(machine.engines) == 1


@pytest.mark.req("LIFE-05")
@virtual_time
async def test_a_load_that_nobody_waits_for_any_more_finishes_and_expires() -> None:
    machine = Machine()
    async with machine.scheduler(keep_alive=10.0) as scheduler:
        request = Request(scheduler, A)
        await settle()
        await request.leave()
        await asyncio.sleep(LOAD_TIME)
        assert machine.loaded == ["a"]
        await asyncio.sleep(11)
        assert machine.loaded == []


@pytest.mark.req("LIFE-05")
@virtual_time
async def test_who_leaves_while_running_hands_its_place_on() -> None:
    async with Machine().scheduler(num_parallel=1) as scheduler:
        running = await Request(scheduler, A).begun()
        waiting = Request(scheduler, A)
        await running.leave()
        await (await waiting.begun()).end()
        await settle()
        assert scheduler.loaded()[0].num_running == 0


@virtual_time
async def test_who_leaves_in_the_instant_in_which_it_gets_its_place_hands_it_on() -> None:
    async with Machine().scheduler(num_parallel=1) as scheduler:
        running = await Request(scheduler, A).begun()
        chosen, next_one = Request(scheduler, A), Request(scheduler, A)
        await settle()
        running.ending.set()
        await asyncio.sleep(0)
        chosen.task.cancel()
        await (await next_one.begun()).end()
        assert not chosen.is_running


@virtual_time
async def test_who_leaves_before_its_turn_came_up_is_not_served() -> None:
    async with Machine().scheduler(num_parallel=1) as scheduler:
        running = await Request(scheduler, A).begun()
        gone, next_one = Request(scheduler, A), Request(scheduler, A)
        await settle()
        gone.task.cancel()
        await running.end()
        await (await next_one.begun()).end()
        assert gone.lease is None


@virtual_time
async def test_a_request_that_fails_hands_its_place_on() -> None:
    async with Machine().scheduler(num_parallel=1) as scheduler:
        with pytest.raises(ZeroDivisionError):
            async with scheduler.lease(Demand(A, LoadOptions()), None):
                raise ZeroDivisionError
        await (await Request(scheduler, A).begun()).end()


@virtual_time
async def test_who_gave_up_an_unload_does_not_stop_it() -> None:
    machine = Machine()
    async with machine.scheduler() as scheduler:
        request = await Request(scheduler, A).begun()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await scheduler.unload(A)
        await request.end()
        await settle()
        assert machine.loaded == []


@virtual_time
async def test_who_leaves_while_others_make_room_for_it_does_not_keep_them() -> None:
    machine = Machine(memory=2 * GIB)
    async with machine.scheduler() as scheduler:
        busy = await Request(scheduler, A).begun()
        gone = Request(scheduler, B)
        await settle()
        await gone.leave()
        waiting = Request(scheduler, A)
        await busy.end()
        await (await waiting.begun()).end()
        assert machine.loaded == ["a"]


@virtual_time
async def test_a_load_that_fails_with_nobody_waiting_makes_room_for_who_waits_for_memory() -> None:
    machine = Machine(memory=2 * GIB)
    machine.load_errors = [LoadError("the model is broken")]
    async with machine.scheduler() as scheduler:
        gone, waiting = Request(scheduler, A), Request(scheduler, B)
        await settle()
        await gone.leave()
        await (await waiting.begun()).end()


ACTIONS = st.one_of(
    st.tuples(st.just("arrive"), st.integers(0, 3), st.sampled_from([0, 256, 8192]), st.sampled_from([None, 0.0, 5.0])),
    st.tuples(st.sampled_from(["end", "leave"]), st.integers(0, 20)),
    st.tuples(st.just("pass"), st.sampled_from([0.0, 0.5, 1.0, 6.0])),
    st.tuples(st.sampled_from(["die", "unload"]), st.integers(0, 3)),
    st.tuples(st.just("break")),
)


class Walk:
    """Requests to four models on a machine that holds two or three of them, and what must hold at every moment."""

    def __init__(self, machine: Machine, scheduler: Scheduler) -> None:
        self.machine = machine
        self.scheduler = scheduler
        self.requests: list[Request] = []
        self.unloads: list[asyncio.Task[None]] = []

    async def act(self, kind: str, *values: float | None) -> None:
        await getattr(self, f"_{kind}")(*values)
        await settle()
        self.check()

    async def _arrive(self, number: int, num_ctx: int, keep_alive: float | None) -> None:
        wanted, options = model("abcd"[number]), LoadOptions(num_ctx=num_ctx)
        self.requests.append(Request(self.scheduler, wanted, options=options, keep_alive=keep_alive, client=str(number % 2)))

    async def _end(self, number: int) -> None:
        running = [request for request in self.requests if request.is_running]
        if running:
            await running[number % len(running)].end()

    async def _leave(self, number: int) -> None:
        if self.requests:
            self.requests[number % len(self.requests)].task.cancel()

    async def _pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _die(self, number: int) -> None:
        for engine in self.machine.engines[-1 - number :]:
            engine.is_alive = False

    async def _unload(self, number: int) -> None:
        self.unloads.append(asyncio.create_task(self.scheduler.unload(model("abcd"[number]))))

    async def _break(self) -> None:
        self.machine.load_errors.append(LoadError("the model is broken"))

    def check(self) -> None:
        """No more run, wait or hold memory than may."""
        for engine in self.machine.engines:
            running = sum(request.is_running and request.lease.runner is engine for request in self.requests if request.lease)
            assert running <= engine.request.num_parallel
        assert len(self.scheduler._queue) <= 3
        assert self.machine.free_memory() >= 0
        assert len(set(self.machine.loaded)) == len(self.machine.loaded)

    async def finish(self) -> None:
        """Let everybody who still waits have a turn."""
        self.machine.load_errors.clear()
        while any(not request.task.done() for request in self.requests):
            for request in [request for request in self.requests if request.is_running]:
                await request.end()
            await asyncio.sleep(1)
            self.check()
        await asyncio.gather(*self.unloads)


@pytest.mark.req("LIFE-02", "LIFE-05")
@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=40))
def test_whatever_happens_everybody_is_answered_and_nothing_leaks(actions: list[tuple[str, *tuple[float | None, ...]]]) -> None:
    @virtual_time
    async def walk() -> None:
        machine = Machine(memory=3 * GIB)
        async with machine.scheduler(num_parallel=2, max_queue=3) as scheduler:
            steps = Walk(machine, scheduler)
            for action in actions:
                await steps.act(*action)
            await steps.finish()
        assert all(engine.is_closed for engine in machine.engines)
        for request in steps.requests:
            error = None if request.task.cancelled() else request.task.exception()
            assert error is None or isinstance(error, (LoadError, Unavailable))

    walk()
