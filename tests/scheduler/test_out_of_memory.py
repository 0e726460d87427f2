"""Memory that is gone where it was planned with: told with numbers, and the next request is planned with what is true then."""

import asyncio
from collections.abc import Sequence

import pytest

from serow.engines.kinds import LLAMA_CPP
from serow.engines.kinds import Engine as EngineKind
from serow.engines.llamacpp.errors import explain_end, shortage
from serow.engines.selection import Choice, Selection
from serow.errors import DeviceGone, EngineDied, NotEnoughMemory, OutOfMemory
from serow.options import LoadOptions
from serow.scheduler import hardware
from serow.scheduler.resident import Demand
from serow.scheduler.scheduler import Scheduler
from serow.settings import Settings
from serow.store.model import Model
from tests.scheduler.machine import GIB, MIB, Cards, Engine, Machine, MachineWithCards, Request, layered, model, told, where
from tests.scheduler.virtual import virtual_time

CUDA = "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 1536.50 MiB on device 0: cudaMalloc failed: out of memory\n"


class Forced(Selection):
    """A built engine for every model; it notes what was struck off."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.struck: list[str] = []

    def choose(self, model: Model, needs: frozenset[object]) -> Choice:
        return Choice(EngineKind(LLAMA_CPP, "build 1"))

    def strike(self, choice: Choice, model: Model, reason: str) -> bool:
        self.struck.append(reason)
        return True


async def fail(scheduler: Scheduler, wanted: Model, error: Exception, spent: Sequence[Engine] = ()) -> None:
    """A request whose engine fails so in the middle of its work, as a handler lets it through; those that are `spent` by it."""
    async with scheduler.lease(Demand(wanted, LoadOptions()), None):
        for engine in spent:
            engine.is_alive = False
        raise error


@pytest.mark.req("DEV-02", "DEV-04")
@pytest.mark.parametrize(
    ("log", "asked", "sentence"),
    [
        (CUDA, 1536 * MIB + MIB // 2, r"the engine ran out of memory, 153[67] MiB were asked for last"),
        ("CUDA error: out of memory\n  current device: 0, in function alloc\n", 0, "the engine ran out of memory"),
        ("ROCm error: out of memory\n", 0, "the engine ran out of memory"),
        ("vk::Device::allocateMemory: ErrorOutOfDeviceMemory\n", 0, "the engine ran out of memory"),
    ],
)
def test_an_engine_that_ran_out_of_memory_says_so_with_the_number(log: str, asked: int, sentence: str) -> None:
    error = explain_end(-6, f"some line\n{log}and another\n")
    assert isinstance(error, OutOfMemory) and error.asked == asked
    with pytest.raises(OutOfMemory, match=f"^{sentence}$"):
        raise error
    assert "num_ctx" in error.hint


def test_an_engine_that_ended_for_another_reason_says_how() -> None:
    error = explain_end(-11, "GGML_ASSERT failed\n")
    assert type(error) is EngineDied and str(error) == "the engine ended with signal 11"


@pytest.mark.req("DEV-02", "DEV-04")
@virtual_time
async def test_memory_that_ends_in_a_long_prompt_costs_that_request_and_the_next_is_planned_with_more_room() -> None:
    here = MachineWithCards(a=6)
    async with here.scheduler(num_parallel=1) as scheduler:
        await (await Request(scheduler, layered("m", 5 * GIB)).begun()).end()
        assert where(scheduler.loaded()[0]) == {"a": 8}
        with pytest.raises(OutOfMemory, match="ran out of memory"):
            await fail(scheduler, layered("m", 5 * GIB), explain_end(-6, CUDA))
        for engine in here.engines:
            engine.is_alive = False
        for _ in range(2):  # what was learned is not unlearned by a load
            (said,) = await told(request := Request(scheduler, layered("m", 5 * GIB)))
            assert "of 8 layers on the CPU" in said
            assert sum(where(scheduler.loaded()[0]).values()) < 8
            await request.end()
            await scheduler.unload(layered("m", 5 * GIB))


@pytest.mark.req("DEV-04")
@virtual_time
async def test_a_built_engine_that_ran_out_of_memory_is_not_struck_off() -> None:
    here, selection = MachineWithCards(), Forced()
    async with here.scheduler(selection) as scheduler:
        for error, struck in ((explain_end(-6, CUDA), 0), (NotEnoughMemory("no room"), 0), (explain_end(-11, ""), 1)):
            with pytest.raises(type(error)):
                await fail(scheduler, layered("m"), error)
            assert len(selection.struck) == struck


@pytest.mark.req("LIFE-06")
@virtual_time
async def test_what_is_too_large_for_an_engine_that_lives_on_costs_that_request_alone() -> None:
    here = MachineWithCards()
    async with here.scheduler() as scheduler:
        for _ in range(2):
            with pytest.raises(NotEnoughMemory):
                await fail(scheduler, layered("m"), NotEnoughMemory("a picture of 4096x4096 needs about 9 GiB"))
        assert len(here.engines) == len(scheduler.loaded()) == 1


@pytest.mark.req("DEV-04")
@virtual_time
async def test_an_engine_that_is_found_dead_for_want_of_memory_is_not_struck_off_either() -> None:
    here, selection = MachineWithCards(), Forced()
    async with here.scheduler(selection) as scheduler:
        for log, struck in ((b"GGML_ASSERT failed\n", 1), (CUDA.encode(), 1)):
            first = await Request(scheduler, layered("m")).begun()
            here.engines[-1].report.feed(log)
            here.engines[-1].is_alive = False
            second = await Request(scheduler, layered("m")).begun()
            assert len(selection.struck) == struck
            await first.end()
            await second.end()
            await scheduler.unload(layered("m"))


LOST = b"vk::Queue::submit: ErrorDeviceLost\n"


@pytest.mark.req("DEV-04")
@virtual_time
async def test_an_engine_that_lost_its_device_is_struck_off_the_second_time_only() -> None:
    here, selection = MachineWithCards(), Forced()
    async with here.scheduler(selection) as scheduler:
        for struck in (0, 1):
            requests = [await Request(scheduler, layered("m")).begun() for _ in range(2)]
            here.engines[-1].report.feed(LOST)
            here.engines[-1].is_alive = False
            requests += [await Request(scheduler, layered("m")).begun() for _ in range(2)]
            assert len(selection.struck) == struck
            for request in requests:
                await request.end()
            await scheduler.unload(layered("m"))


@pytest.mark.req("DEV-04")
@virtual_time
async def test_a_device_that_is_gone_when_the_engine_starts_costs_nobody_an_error() -> None:
    here = MachineWithCards(a=4, b=4)
    async with here.scheduler(num_parallel=1) as scheduler:
        request = Request(scheduler, layered("m", 6 * GIB))
        await asyncio.sleep(0.5)  # planned and loading
        del here.cards.memory["b"]
        assert await told(request) == [
            "m:latest was planned with 8 layers on devices, one of which is gone: it runs with 4 of 8 layers there"
        ]
        assert [where(each) for each in scheduler.loaded()] == [{"a": 4}]


def test_what_an_engine_says_of_a_device_that_is_gone_is_no_fault_of_the_engine() -> None:
    error = shortage('error while handling argument "--device": invalid device: CUDA1\n')
    assert isinstance(error, DeviceGone) and str(error) == "could not load the model: there is no device CUDA1 any more"
    assert str(explain_end(-6, LOST.decode())) == "the engine lost a device that it worked on"


@pytest.mark.req("DEV-02", "DEV-03")
@virtual_time
async def test_memory_that_ends_in_a_picture_lets_the_parts_take_turns_the_next_time() -> None:
    here = MachineWithCards(a=5)
    painter = model("p", 3 * GIB, capabilities=("image",))
    async with here.scheduler() as scheduler:
        await (await Request(scheduler, painter).begun()).end()
        assert where(scheduler.loaded()[0]) == {"a": 2}
        with pytest.raises(NotEnoughMemory, match="needs more"):
            error = NotEnoughMemory("the picture needs more memory than the 0.3 GiB that were free")
            await fail(scheduler, painter, error, here.engines)
        (said,) = await told(Request(scheduler, painter))
        assert said.startswith("p:latest runs with its parts taking turns on the device")


@pytest.mark.req("DEV-01", "DEV-04")
@virtual_time
async def test_two_servers_on_one_card_that_plan_at_the_same_moment_end_with_both_models_running() -> None:
    cards = Cards(a=6 * GIB)
    one, other = Machine(), Machine()
    one.cards = other.cards = cards
    async with one.scheduler(num_parallel=1) as first, other.scheduler(num_parallel=1) as second:
        requests = [Request(scheduler, layered("m")) for scheduler in (first, second)]
        said = [words for request in requests for words in await told(request)]
        assert said == ["m:latest did not fit with 8 layers on devices as planned: it runs with 3 of 8 layers there"]
        assert [where(each) for scheduler in (first, second) for each in scheduler.loaded()] == [{"a": 8}, {"a": 3}]
        assert cards.free("a") >= 0
        await Request(second, layered("n")).begun()  # and who comes later plans with what is left
        assert cards.free("a") >= 0


@pytest.mark.req("DEV-01", "DEV-04")
@virtual_time
async def test_who_was_faster_takes_all_of_its_memory_before_a_smaller_way_is_planned() -> None:
    here = MachineWithCards(a=8)
    async with here.scheduler(num_parallel=1) as scheduler:
        request = Request(scheduler, layered("m"))
        await asyncio.sleep(0.9)
        for step in range(4):  # another server loads a model there
            here.cards.others["a"] = (4 + step) * GIB
            await asyncio.sleep(0.5)
        assert await told(request) == [
            "m:latest did not fit with 8 layers on devices as planned: it runs with 1 of 8 layers there"
        ]
        assert here.cards.free("a") >= 0


@pytest.mark.req("DEV-04")
@virtual_time
async def test_a_card_that_vanishes_while_a_model_is_loaded_there_leaves_the_cpu() -> None:
    here = MachineWithCards(a=24)
    async with here.scheduler(num_parallel=1) as scheduler:
        request = Request(scheduler, layered("m"))
        await asyncio.sleep(0.5)  # planned and loading
        del here.cards.memory["a"]
        here.load_errors = [NotEnoughMemory("there is not enough memory for the model")]
        (said,) = await told(request)
        assert said == "m:latest did not fit with 8 layers on devices as planned: it runs with none of its layers there"


@pytest.mark.req("DEV-03")
@pytest.mark.parametrize("num_gpu", [10**9, -(10**9)])
@virtual_time
async def test_layers_without_number_are_all_of_them(num_gpu: int) -> None:
    async with MachineWithCards(a=24).scheduler(num_parallel=1) as scheduler:
        await told(Request(scheduler, layered("m"), options=LoadOptions(num_gpu=num_gpu)))
        assert [where(each) for each in scheduler.loaded()] == [{"a": 8}]


@pytest.mark.req("DEV-02", "DEV-05")
@pytest.mark.parametrize(
    ("beside", "learned", "said"),
    [
        (0, 400 * MIB, ""),  # it tells nothing of processes: the guess holds
        (300 * MIB, 300 * MIB, ""),
        (-100 * MIB, 0, ""),
        (-2 * GIB, 400 * MIB, "of card a, its driver counts 2108"),
        (9 * GIB, 400 * MIB, "of card a, its driver counts 13372"),
    ],
)
@virtual_time
async def test_what_an_engine_says_is_held_against_what_the_driver_counts_for_its_process(
    beside: int, learned: int, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hardware, "family", lambda pid: [pid])
    here = MachineWithCards(a=24)
    here.cards.beside = beside
    async with here.scheduler(num_parallel=1) as scheduler:
        await Request(scheduler, layered("m")).begun()
        await asyncio.sleep(1)
        (room,) = scheduler._hardware.rooms(layered("n"), Choice(), scheduler._residents)
        assert room.context == learned
        assert said in caplog.text and ("the engine says" in caplog.text) is bool(said)
        assert scheduler.loaded()[0].size_vram < 5 * GIB  # the engine's own word stays what is told
