"""The scheduler on a machine with cards, in virtual time: what is planned, told, tried again, and given back."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serow.engines.base import LoadRequest
from serow.engines.llamacpp.params import describe
from serow.errors import NotEnoughMemory, RequestError
from serow.options import LoadOptions
from serow.scheduler.loaded import LoadedModel
from serow.scheduler.scheduler import Scheduler
from tests.scheduler.machine import GIB, MIB, Machine, MachineWithCards, Request, come_again, layered, model, told, where
from tests.scheduler.virtual import VirtualLoop, settle, virtual_time

CONTEXT = 400 * MIB  # what a driver is guessed to take for a process


@pytest.mark.req("DEV-01", "DEV-03")
@virtual_time
async def test_a_model_goes_to_the_card_where_it_fits_with_what_is_free_now() -> None:
    here = MachineWithCards(a=24, b=8)
    async with here.scheduler() as scheduler:
        assert await told(Request(scheduler, layered("m"))) == []
        assert [where(each) for each in scheduler.loaded()] == [{"b": 8}]
        here.cards.others["a"] = 23 * GIB  # another program came
        assert await told(Request(scheduler, layered("n"))) != []
        here.cards.others["b"] = 4 * GIB
        placed = {each.model.name.model: where(each) for each in scheduler.loaded()}
        assert placed == {"m": {"b": 8}, "n": {"b": 3, "a": 1}}


@pytest.mark.req("DEV-03", "DEV-06")
@pytest.mark.parametrize(
    ("cards", "options", "expected", "is_told"),
    [
        ({"pipe": 24}, LoadOptions(), {}, False),
        ({"pipe": 24}, LoadOptions(num_gpu=3), {"pipe": 3}, True),
        ({"pipe": 24}, LoadOptions(main_gpu=0), {"pipe": 8}, True),
        ({"pipe": 24, "b": 8}, LoadOptions(), {"b": 8}, False),
        ({"pipe": 24, "b": 8}, LoadOptions(num_gpu=8), {"b": 8}, False),
        ({"pipe": 24, "b": 3}, LoadOptions(), {"b": 5}, True),
    ],
)
@virtual_time
async def test_a_card_that_is_the_cpu_holds_something_only_where_it_is_asked_for(
    cards: dict[str, int], options: LoadOptions, expected: dict[str, int], is_told: bool
) -> None:
    here = MachineWithCards(**cards)
    here.cards.emulated.add("pipe")
    async with here.scheduler(num_parallel=1) as scheduler:
        assert bool(await told(Request(scheduler, layered("m"), options=options))) is is_told
        assert [where(each) for each in scheduler.loaded()] == [expected]


@pytest.mark.req("DEV-06")
@virtual_time
async def test_a_model_that_fits_in_part_says_so_with_the_load_and_with_the_first_answer_only() -> None:
    here = MachineWithCards(a=3)
    async with here.scheduler(num_parallel=1) as scheduler:
        first = await Request(scheduler, layered("m")).begun()
        assert first.lease is not None
        (said,) = first.lease.notices.look()
        assert (
            said.startswith("m:latest runs 3 of 8 layers on the CPU: it needs ") and "card a has 3072 MiB to plan with" in said
        )
        assert first.lease.notices.take() == [said]
        assert first.lease.notices.look() == first.lease.notices.take() == []
        (loaded,) = scheduler.loaded()
        assert 0 < loaded.size_vram < 4 * GIB


@pytest.mark.req("DEV-03", "DEV-05")
@virtual_time
async def test_num_gpu_and_main_gpu_are_kept_and_nothing_is_said_of_a_wish() -> None:
    here = MachineWithCards(a=24, b=8)
    async with here.scheduler(num_parallel=1) as scheduler:
        assert await told(Request(scheduler, layered("m"), options=LoadOptions(num_gpu=3, main_gpu=0))) == []
        assert await told(Request(scheduler, layered("n"), options=LoadOptions(num_gpu=0))) == []
        assert await told(Request(scheduler, layered("o"), options=LoadOptions(num_gpu=10**9, main_gpu=0))) == []
        placed = {each.model.name.model: where(each) for each in scheduler.loaded()}
        assert placed == {"m": {"a": 3}, "n": {}, "o": {"a": 8}}
        sizes = {each.model.name.model: (each.size, each.size_vram) for each in scheduler.loaded()}
        assert sizes["n"][1] == 0
        assert sizes["o"][0] == sizes["o"][1]  # all of it


@pytest.mark.req("DEV-03")
@virtual_time
async def test_a_main_gpu_that_is_not_there_is_refused_with_those_that_are() -> None:
    async with MachineWithCards(a=24, b=8).scheduler() as scheduler:
        with pytest.raises(RequestError, match=r'"main_gpu" is 5, there is no such device: 0 is card a, 1 is card b'):
            await Request(scheduler, layered("m"), options=LoadOptions(main_gpu=5)).begun()
        assert await told(Request(scheduler, layered("m"))) == []


@pytest.mark.req("DEV-04")
@virtual_time
async def test_memory_that_another_program_took_meanwhile_makes_it_smaller_once_and_that_is_told() -> None:
    here = MachineWithCards(a=8)
    async with here.scheduler(num_parallel=1) as scheduler:
        request = Request(scheduler, layered("m"))
        await asyncio.sleep(0.5)  # planned and loading
        here.cards.others["a"] = 5 * GIB
        said = await told(request)
        assert said == ["m:latest did not fit with 8 layers on devices as planned: it runs with 5 of 8 layers there"]
        assert [sum(use.layers for use in engine.request.uses) for engine in here.engines] == [8, 5]
        assert [where(each) for each in scheduler.loaded()] == [{"a": 5}]


@pytest.mark.req("DEV-04")
@virtual_time
async def test_a_second_failure_is_an_error_with_the_numbers_and_the_next_request_is_planned_anew() -> None:
    here = MachineWithCards(a=8)
    here.load_errors = [NotEnoughMemory("there is not enough memory for the model") for _ in range(2)]
    async with here.scheduler(num_parallel=1) as scheduler:
        with pytest.raises(NotEnoughMemory, match=r"for the model; card a has 8192 MiB free, \d+ MiB were planned"):
            await Request(scheduler, layered("m")).begun()
        assert await told(Request(scheduler, layered("m"))) == []


@pytest.mark.req("DEV-04")
@virtual_time
async def test_only_a_context_that_nobody_named_becomes_smaller() -> None:
    here = Machine()
    too_little = NotEnoughMemory("there is not enough memory for the model")
    async with here.scheduler() as scheduler:
        here.load_errors = [too_little]
        assert await told(Request(scheduler, model("m"))) == ["m:latest did not fit with a context of 4096 tokens: it has 2048"]
        here.load_errors = [too_little]
        with pytest.raises(NotEnoughMemory):
            await Request(scheduler, model("n"), options=LoadOptions(num_ctx=4096)).begun()


@pytest.mark.req("DEV-07")
@virtual_time
async def test_what_an_engine_held_is_planned_with_once_the_driver_reports_it_as_free() -> None:
    here = MachineWithCards(a=6)
    here.cards.delay = 3.0
    async with here.scheduler(num_parallel=1) as scheduler:
        await (await Request(scheduler, layered("m")).begun()).end()
        assert await told(Request(scheduler, layered("n"))) == []  # idle ones leave for all of it
        assert {each.model.name.model: where(each) for each in scheduler.loaded()} == {"n": {"a": 8}}
        assert asyncio.get_running_loop().time() > 3.0


@pytest.mark.req("DEV-07")
@virtual_time
async def test_what_does_not_come_back_is_told_and_waited_for_no_longer(caplog: pytest.LogCaptureFixture) -> None:
    here = MachineWithCards(a=6)
    here.cards.delay = 60.0
    async with here.scheduler(num_parallel=1) as scheduler:
        await (await Request(scheduler, layered("m")).begun()).end()
        await scheduler.unload(layered("m"))
        assert 5 < asyncio.get_running_loop().time() < 10
    assert "of card a did not come back within 5 s" in caplog.text


@pytest.mark.req("DEV-03", "DEV-06")
@pytest.mark.parametrize("is_back", [True, False])
@virtual_time
async def test_a_model_that_lies_on_the_cpu_for_want_of_an_answer_is_planned_anew_a_minute_later(is_back: bool) -> None:
    here = MachineWithCards(a=24)
    here.cards.is_silent = True
    async with here.scheduler() as scheduler:
        await (await Request(scheduler, layered("m")).begun()).end()
        here.cards.is_silent = not is_back
        await (await Request(scheduler, layered("m")).begun()).end()
        assert [where(each) for each in scheduler.loaded()] == [{}]  # so soon it stays where it is
        await asyncio.sleep(61)
        user = await Request(scheduler, layered("m")).begun()
        assert [where(each) for each in scheduler.loaded()] == [{"a": 8} if is_back else {}]
        assert len(here.engines) == 1 + is_back
        await user.end()


@pytest.mark.req("DEV-03", "DEV-06")
@virtual_time
async def test_a_model_whose_card_was_gone_lies_there_again_a_minute_after_it_is_back() -> None:
    here = MachineWithCards(a=24)
    async with here.scheduler() as scheduler:
        request = Request(scheduler, layered("m"))
        await asyncio.sleep(0.5)  # planned and loading
        card = here.cards.memory.pop("a")
        (said,) = await told(request)
        assert said.endswith("one of which is gone: it runs with none of its layers there")
        here.cards.memory["a"] = card
        await asyncio.sleep(61)
        beside = await Request(scheduler, layered("m")).begun()
        assert [where(each) for each in scheduler.loaded()] == [{}]  # somebody uses it
        await beside.end()
        await request.end()
        await (await Request(scheduler, layered("m")).begun()).end()
        assert [where(each) for each in scheduler.loaded()] == [{"a": 8}]
        assert [engine.request.num_parallel for engine in here.engines] == [64, 8, 64]


@pytest.mark.req("DEV-04", "DEV-09")
@virtual_time
async def test_what_does_not_fit_a_device_whole_has_no_more_slots_than_that_and_is_counted_in_main_memory() -> None:
    here = MachineWithCards(a=24)
    async with here.scheduler() as scheduler:
        request = Request(scheduler, layered("m"))
        await asyncio.sleep(0.5)
        here.cards.others["a"] = 22 * GIB
        await told(request)
        first, second = (engine.request for engine in here.engines)
        assert (first.num_parallel, second.num_parallel, len(second.uses)) == (64, 1, 1)
        assert second.memory >= layered("m").size - sum(use.weights for use in second.uses)
        await request.end()
        await come_again(scheduler)
        assert len(here.engines) == 2  # the others are still there
        here.cards.others["a"] = 0
        await come_again(scheduler)
        assert [where(each) for each in scheduler.loaded()] == [{"a": 8}]


@pytest.mark.req("DEV-04")
@virtual_time
async def test_a_model_that_took_more_than_was_estimated_is_not_loaded_anew_again_and_again() -> None:
    here = MachineWithCards(a=24)
    here.load_errors = [NotEnoughMemory("could not load the model: there is not enough memory for the model")]
    async with here.scheduler() as scheduler:
        await (await Request(scheduler, layered("m")).begun()).end()
        await come_again(scheduler)
        assert len(here.engines) == 2


@pytest.mark.req("DEV-04")
@virtual_time
async def test_what_has_no_room_in_main_memory_either_is_refused_with_the_numbers_of_the_device() -> None:
    here = MachineWithCards(a=24)
    here.memory = 3 * GIB
    async with here.scheduler() as scheduler:
        request = Request(scheduler, layered("m"))
        await asyncio.sleep(0.5)
        here.cards.others["a"] = 23 * GIB
        with pytest.raises(NotEnoughMemory, match="card a has 1024 MiB free"):
            await request.begun()


@pytest.mark.req("DEV-01")
@virtual_time
async def test_a_driver_that_hangs_costs_a_request_its_deadline_and_the_model_runs() -> None:
    here = MachineWithCards(a=24)
    here.cards.is_silent = True
    async with here.scheduler() as scheduler:
        (said,) = await told(Request(scheduler, layered("m")))
        assert said.startswith(
            "m:latest runs on the CPU: what GPUs there are was not known in time; who asks for it a minute later"
        )
        assert [where(each) for each in scheduler.loaded()] == [{}]
        spec = describe(here.engines[-1].request)
        assert (spec.devices, spec.num_gpu) == ((), 0)  # the engine itself is not to guess
        assert asyncio.get_running_loop().time() < 10
        assert await told(Request(scheduler, layered("n"), options=LoadOptions(num_gpu=0))) == []  # it was asked for


@pytest.mark.req("DEV-01")
@virtual_time
async def test_a_model_that_draws_waits_once_for_what_pictures_are_drawn_on_and_nobody_else_does() -> None:
    here = MachineWithCards(a=24)
    here.cards.is_silent = True
    clock = asyncio.get_running_loop().time
    async with here.scheduler() as scheduler:
        drawing = Request(scheduler, model("p", 3 * GIB, capabilities=("image",)))
        await Request(scheduler, layered("m")).begun()
        assert clock() < 10 and not drawing.is_running
        assert "p:latest runs on the CPU" in (await told(drawing))[0]
        began = clock()
        await Request(scheduler, model("q", 3 * GIB, capabilities=("image",))).begun()
        assert clock() - began < 10


@pytest.mark.req("DEV-01", "DEV-04")
@virtual_time
async def test_each_load_is_planned_with_what_is_free_then_also_right_behind_another_one() -> None:
    here = MachineWithCards(a=24)
    async with here.scheduler(num_parallel=1) as scheduler:
        first = Request(scheduler, layered("m"))
        await asyncio.sleep(0.1)
        here.cards.others["a"] = 17 * GIB  # another server has loaded a model there
        assert "of 8 layers on the CPU" in (await told(Request(scheduler, layered("n"))))[0]
        assert await told(first) == []
        assert here.cards.free("a") >= 0


@pytest.mark.req("DEV-01", "DEV-03")
@virtual_time
async def test_a_driver_that_tells_all_of_its_memory_as_free_is_not_believed_more_than_what_our_models_leave() -> None:
    here = MachineWithCards(a=6)
    here.cards.tells_all = True
    async with here.scheduler(num_parallel=1) as scheduler:
        first = await Request(scheduler, layered("m")).begun()
        assert [each.free >> 30 for each in scheduler.devices] == [1]
        assert "of 8 layers on the CPU" in (await told(Request(scheduler, layered("n"))))[0]
        assert here.cards.free("a") >= 0
        await first.end()
        await Request(scheduler, layered("o")).begun()  # the one that is idle leaves
        assert here.cards.free("a") >= 0


@pytest.mark.req("DEV-01")
@virtual_time
async def test_a_card_that_vanishes_is_planned_with_no_more() -> None:
    here = MachineWithCards(a=24, b=8)
    async with here.scheduler() as scheduler:
        await Request(scheduler, layered("m")).begun()
        del here.cards.memory["b"]
        await Request(scheduler, layered("n")).begun()
        assert {each.model.name.model: set(where(each)) for each in scheduler.loaded()}["n"] == {"a"}


@pytest.mark.req("DEV-09")
@virtual_time
async def test_a_card_runs_up_to_64_requests_together_as_its_memory_goes() -> None:
    async with MachineWithCards(a=80).scheduler() as scheduler:
        await Request(scheduler, layered("m")).begun()
        assert scheduler.loaded()[0].request.num_parallel == 64
    async with MachineWithCards(a=6).scheduler() as scheduler:
        await Request(scheduler, layered("m")).begun()
        assert 8 < scheduler.loaded()[0].request.num_parallel < 64
    async with MachineWithCards(a=80).scheduler(num_parallel=3) as scheduler:
        await Request(scheduler, layered("m")).begun()
        assert scheduler.loaded()[0].request.num_parallel == 3


@pytest.mark.req("DEV-03")
@virtual_time
async def test_models_that_draw_and_models_that_write_share_a_card_and_evict_each_other() -> None:
    here = MachineWithCards(a=6)
    async with here.scheduler(num_parallel=1) as scheduler:
        painter = model("p", 3 * GIB, capabilities=("image",))
        await (await Request(scheduler, painter).begun()).end()
        assert [where(each) for each in scheduler.loaded()] == [{"a": 2}]
        await (await Request(scheduler, layered("m")).begun()).end()
        assert {each.model.name.model: where(each) for each in scheduler.loaded()} == {"m": {"a": 8}}
        await Request(scheduler, painter).begun()
        assert {each.model.name.model: where(each) for each in scheduler.loaded()} == {"p": {"a": 2}}


@pytest.mark.req("DEV-03", "DEV-06")
@virtual_time
async def test_the_parts_of_a_pipeline_take_turns_on_a_card_that_can_not_hold_them_all() -> None:
    async with MachineWithCards(a=6).scheduler() as scheduler:
        (said,) = await told(Request(scheduler, model("p", 4 * GIB, capabilities=("image",))))
        assert said.startswith("p:latest runs with its parts taking turns on the device: it needs 6544 MiB")
        assert [where(each) for each in scheduler.loaded()] == [{"a": 1}]


STEPS = st.lists(
    st.tuples(st.sampled_from("mnop"), st.sampled_from([0.0, 0.3, 2.0]), st.booleans(), st.sampled_from([-1, -1, 3, 0])),
    min_size=1,
    max_size=8,
)
SIZES = {"m": 1, "n": 3, "o": 5, "p": 9}  # GiB


def check(here: MachineWithCards, scheduler: Scheduler) -> None:
    """Nothing is over-committed, measured by what engines hold."""
    assert all(here.cards.free(name) >= 0 for name in here.cards.memory)
    assert all(isinstance(engine.request, LoadRequest) for engine in here.engines)
    assert not any("did not fit" in said for each in scheduler.loaded() for said in notices(scheduler, each))


def notices(scheduler: Scheduler, loaded: LoadedModel) -> list[str]:
    residents = [each for each in scheduler._residents if each.request is loaded.request]
    return [said for resident in residents for said in resident.notices.all]


@pytest.mark.req("DEV-03")
@settings(max_examples=30, deadline=None)
@given(STEPS, st.sampled_from([(4, 4), (12, 3), (6, 6), (2, 2)]))
def test_a_random_walk_over_commits_no_card_and_starves_nobody(
    steps: list[tuple[str, float, bool, int]], cards: tuple[int, int]
) -> None:
    async def walk() -> None:
        here = MachineWithCards(a=cards[0], b=cards[1])
        async with asyncio.timeout(3600), here.scheduler(num_parallel=2) as scheduler:
            running = []
            for name, pause, ends, num_gpu in steps:
                request = Request(scheduler, layered(name, SIZES[name] * GIB), options=LoadOptions(num_gpu=num_gpu))
                running.append(request)
                await asyncio.sleep(pause)
                check(here, scheduler)
                if ends and running[0].is_running:
                    await running.pop(0).end()
            while running:  # everybody gets his turn once the others end
                begun = asyncio.wait([asyncio.ensure_future(each.begun()) for each in running], return_when="FIRST_COMPLETED")
                await asyncio.wait_for(begun, 600)
                check(here, scheduler)
                await running.pop(next(place for place, each in enumerate(running) if each.is_running)).end()
            await settle()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(walk())
