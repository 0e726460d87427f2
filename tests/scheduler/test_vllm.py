"""A model that vLLM runs: whole on one device, with the part of it that is planned, or refused with the numbers (REM-07)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from serow.devices.use import Use as DeviceUse
from serow.engines.base import LoadRequest
from serow.engines.selection import Choice
from serow.engines.vllm.environment import Environment
from serow.options import LoadOptions
from serow.scheduler.fitting import Room
from serow.scheduler.footprint import Footprint
from serow.scheduler.need import VLLM_PROCESS, estimate
from serow.scheduler.plan import Decision, Load, Machine, Refuse, Wait, plan
from serow.scheduler.resident import Demand, Resident, State
from serow.scheduler.shrinking import smaller
from serow.settings import Settings
from serow.store.model import Model
from tests.scheduler.machine import GIB, model

pytestmark = pytest.mark.req("REM-07")
UNSET = LoadOptions()
CHOICE = Choice(Environment(Path("/opt/vllm/bin/python")).engine)


def folder(size: int = 16 * GIB) -> Model:
    """A model of safetensors."""
    return replace(model("big", size), tokenizer=Path("tokenizer.json"))


def card(name: str, free: int, total: int = 80) -> Room:
    return Room(name, "CUDA0", "cuda", free * GIB, f"card {name}", total * GIB, 400 << 20)


def decide(rooms: Sequence[Room], *residents: Resident, options: LoadOptions = UNSET, free: int = 64) -> Decision:
    machine = Machine(lambda: free * GIB, lambda model, choice: rooms)
    return plan(Demand(folder(), options), residents, machine, Settings(), lambda: CHOICE)


def resident(name: str, on: str, size: int, state: State = State.READY, running: int = 0) -> Resident:
    memory = Footprint(0, {on: size * GIB})
    request = LoadRequest(model(name), LoadOptions(num_ctx=4096), 1)
    return Resident(request, memory, num_running=running, state=state, uses=(DeviceUse(id=on, handle="CUDA0", layers=1),))


def test_it_takes_one_device_with_room_for_many_requests() -> None:
    found = decide([card("a", 79), card("b", 12)])
    assert isinstance(found, Load)
    (use,) = found.uses
    assert (use.id, use.total) == ("a", 80 * GIB)
    assert found.num_parallel == 64
    assert 17 * GIB < use.size < 40 * GIB
    assert found.memory < 2 * VLLM_PROCESS  # of main memory
    assert found.warnings == ()


@pytest.mark.parametrize("running", [0, 1])
def test_other_models_leave_for_it(running: int) -> None:
    other = resident("other", "a", 70, running=running)
    found = decide([card("a", 9)], other)
    assert isinstance(found, Load)
    assert found.after == (other,)


def test_where_no_device_holds_it_whole_it_is_refused_with_the_numbers() -> None:
    found = decide([card("a", 9, 10), card("b", 8, 10)], options=LoadOptions(num_gpu=0))
    assert isinstance(found, Refuse)
    assert found.words.startswith("model requires more GPU memory on one device (18.")
    assert found.words.endswith("than is available (9.0 GiB)")


def test_what_loads_meanwhile_is_waited_for() -> None:
    assert decide([card("a", 9)], resident("other", "a", 70, State.LOADING)) == Wait()


def test_without_a_device_it_runs_on_the_cpu_in_main_memory() -> None:
    found = decide([])
    assert isinstance(found, Load)
    assert (found.uses, found.memory > 16 * GIB + VLLM_PROCESS) == ((), True)
    assert isinstance(decide([], free=16), Refuse)


def test_when_it_did_not_fit_its_context_is_halved_and_never_its_layers() -> None:
    found = decide([card("a", 79)])
    assert isinstance(found, Load)
    request = LoadRequest(folder(), found.options, found.num_parallel, CHOICE.engine, uses=found.uses)
    again = smaller(request, estimate(folder(), found.options, 1), [card("a", 79)], is_automatic=True)
    assert again is not None
    assert (again.options.num_ctx, again.uses) == (found.options.num_ctx // 2, found.uses)
