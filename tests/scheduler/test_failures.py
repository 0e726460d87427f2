"""Engines that die or do not load."""

import asyncio
from pathlib import Path

import pytest

from serow.engines.kinds import Feature
from serow.engines.selection import Selection
from serow.errors import EngineDied, LoadError
from serow.options import LoadOptions
from serow.scheduler.resident import Demand
from tests.engines.check.test_checks import result
from tests.engines.test_selection import Place
from tests.scheduler.machine import GIB, Machine, Request, model, names
from tests.scheduler.virtual import settle, virtual_time

A = model("a")
STRUCK_OFF = "the engine ik is not used for this model any more"


@pytest.fixture
def selection(tmp_path: Path) -> Selection:
    """One that takes ik for the model `a`."""
    place = Place(tmp_path)
    place.build("ik")
    place.checks.put([result()])
    return place.selection()


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
            async with scheduler.lease(Demand(A, LoadOptions()), None):
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


@pytest.mark.req("LIFE-06")
@virtual_time
async def test_an_engine_that_died_is_struck_off_and_the_next_request_gets_another_one(selection: Selection) -> None:
    machine = Machine()
    async with machine.scheduler(selection) as scheduler:
        with pytest.raises(EngineDied, match=f"^the engine ended with signal 9; {STRUCK_OFF}$") as caught:
            async with scheduler.lease(Demand(A, LoadOptions()), None):
                assert machine.kinds == ["ik"]
                raise EngineDied("the engine ended with signal 9")
        assert caught.value.hint == "ask again: another engine takes over"
        await (await Request(scheduler, A).begun()).end()
        assert machine.kinds == ["wheel"]


@pytest.mark.req("LIFE-06")
@virtual_time
async def test_an_engine_that_does_not_load_is_struck_off_and_the_next_request_gets_another_one(selection: Selection) -> None:
    machine = Machine()
    machine.load_errors = [LoadError("could not load the model")]
    async with machine.scheduler(selection) as scheduler:
        requests = [Request(scheduler, A) for _ in range(2)]
        for request in requests:
            with pytest.raises(LoadError, match=f"^could not load the model; {STRUCK_OFF}$"):
                await request.begun()
        await (await Request(scheduler, A).begun()).end()
        assert [engine.request.engine.name for engine in machine.engines] == ["ik", "wheel"]


@virtual_time
async def test_a_load_that_was_given_up_strikes_nothing_off(selection: Selection) -> None:
    machine = Machine()
    async with machine.scheduler(selection) as scheduler:
        Request(scheduler, A)
        await settle()
    assert selection.choose(A, frozenset()).engine.name == "ik"


@virtual_time
async def test_what_an_engine_lacks_runs_on_the_wheel_beside_it_and_both_are_unloaded(selection: Selection) -> None:
    machine = Machine()
    async with machine.scheduler(selection) as scheduler:
        plain = await Request(scheduler, A).begun()
        needy = await Request(scheduler, A, needs=frozenset({Feature.LLGUIDANCE})).begun()
        assert machine.kinds == ["ik", "wheel"]
        assert names(scheduler) == ["a", "a"]
        for request in (plain, needy):
            await request.end()
        await (await Request(scheduler, A).begun()).end()
        await (await Request(scheduler, A, needs=frozenset({Feature.LLGUIDANCE})).begun()).end()
        assert len(machine.engines) == 2
        await scheduler.unload(A)
        assert machine.kinds == []


@virtual_time
async def test_an_engine_leaves_for_the_wheel_when_both_do_not_fit(selection: Selection) -> None:
    machine = Machine(memory=2 * GIB)
    async with machine.scheduler(selection) as scheduler:
        await (await Request(scheduler, A).begun()).end()
        await (await Request(scheduler, A, needs=frozenset({Feature.LLGUIDANCE})).begun()).end()
        assert machine.kinds == ["wheel"]
