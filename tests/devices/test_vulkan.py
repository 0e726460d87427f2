"""Placements on a Vulkan device that is the CPU, Mesa's llvmpipe, with a build that has Vulkan (SEROW_TEST_VULKAN)."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serow.devices.inventory import Asked, Inventory
from serow.engines.base import LoadRequest
from serow.engines.llamacpp.runner import LlamaRunner
from serow.options import LoadOptions
from serow.scheduler.loaded import LoadedModel
from serow.scheduler.resident import Demand
from serow.scheduler.scheduler import Lease, Scheduler
from serow.settings import Settings
from serow.store.model import Model
from serow.store.store import Store
from tests.conftest import create, pulled
from tests.engines.llamacpp.engines import chat, completion, text_of

VARIABLE = "SEROW_TEST_VULKAN"  # a llama-server that was built with Vulkan
pytestmark = pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"{VARIABLE} names no llama-server with Vulkan")
EXECUTABLE = Path(os.environ.get(VARIABLE, ""))
DEADLINE = 240.0  # seconds: the driver compiles a program for each kind of operation
MIB = 1 << 20


@pytest.fixture(autouse=True)
def visible() -> Iterator[None]:
    """The engine passes a device by that is the CPU, unless it is told to take it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GGML_VK_VISIBLE_DEVICES", "0")
        yield


@pytest.fixture
def zoo_think(tmp_path: Path, zoo: Path) -> Model:
    return stored(tmp_path, zoo / "zoo-think.gguf")


def stored(root: Path, weights: Path) -> Model:
    store = Store(root)
    create(store, "m", weights)
    return store.resolve("m")


class Placed:
    """A scheduler over the devices that the engine itself tells of."""

    def __init__(self, num_parallel: int = 1) -> None:
        self.settings = Settings(llama_server=EXECUTABLE, num_parallel=num_parallel, slot_cache=0, load_timeout=DEADLINE)
        self.runner: LlamaRunner | None = None

    def start(self, request: LoadRequest) -> LlamaRunner:
        self.runner = LlamaRunner(request, self.settings)
        return self.runner

    @asynccontextmanager
    async def loaded(self, model: Model, options: LoadOptions) -> AsyncIterator[tuple[LoadedModel, Lease]]:
        inventory = Inventory(lambda: [Asked("llama.cpp", EXECUTABLE)], lambda: False, environ=os.environ)
        async with asyncio.timeout(DEADLINE), inventory:
            assert await inventory.refresh(DEADLINE)
            async with (
                Scheduler(self.settings, self.start, inventory=inventory) as scheduler,
                scheduler.lease(Demand(model, options), 60) as lease,
            ):
                (loaded,) = scheduler.loaded()
                yield loaded, lease

    def told(self, name: str) -> float:
        """MiB of the buffers on a device in the engine's own words; of all of them for ""."""
        assert self.runner
        lines = [line for line in self.runner._child.stderr.splitlines() if name in line and "buffer size" in line]
        own = [line for line in lines if not name or f"{name}_Host" not in line]
        return sum(float(size) for line in own for size in re.findall(r"buffer size = +([\d.]+) MiB", line))


@pytest.mark.req("DEV-01", "DEV-10")
async def test_the_device_is_listed_as_the_cpu_that_it_is() -> None:
    async with Inventory(lambda: [Asked("llama.cpp", EXECUTABLE)], lambda: False, environ=os.environ) as inventory:
        assert await inventory.refresh(DEADLINE)
    (device,) = inventory.devices
    assert (device.kind, device.is_emulated, device.handles) == ("vulkan", True, {"llama.cpp": "Vulkan0"})
    assert device.name.startswith("llvmpipe") and 0 < device.free <= device.total


@pytest.mark.req("DEV-03", "DEV-04", "DEV-05", "DEV-06", "DEV-10")
@pytest.mark.parametrize(("num_gpu", "layers"), [(-1, 0), (0, 0), (1, 1), (3, 3), (10**9, 5)])
async def test_so_many_layers_lie_there_as_are_asked_for_and_the_text_is_the_same(
    zoo_think: Model, num_gpu: int, layers: int
) -> None:
    placed = Placed()
    async with placed.loaded(zoo_think, LoadOptions(num_ctx=512, num_thread=2, num_gpu=num_gpu)) as (loaded, lease):
        assert sum(use.layers for use in loaded.uses) == layers
        assert ["which is the CPU" in said for said in lease.notices.all] == [True] * bool(layers)
        assert placed.runner and (placed.runner.report.num_layers == layers or not layers)
        assert "122" in await text_of(placed.runner, completion(await chat(placed.runner, "What is 37 + 85?"), 16))
        own = placed.told("" if layers == 5 else "Vulkan0") if layers else 0.0
        assert loaded.size_vram == pytest.approx(own * MIB, rel=0.02)


@pytest.mark.req("DEV-02", "DEV-05", "DEV-10")
@pytest.mark.large
@pytest.mark.parametrize("num_gpu", [99, 12])
@pytest.mark.parametrize(("num_ctx", "num_parallel"), [(512, 1), (2048, 1), (512, 8)])
async def test_what_is_planned_for_it_is_what_its_buffers_come_to(
    tmp_path: Path, num_gpu: int, num_ctx: int, num_parallel: int
) -> None:
    placed = Placed(num_parallel)
    options = LoadOptions(num_ctx=num_ctx, num_thread=2, num_gpu=num_gpu)
    async with placed.loaded(stored(tmp_path, pulled("smollm2:135m")), options) as (loaded, _):
        planned, taken = (sum(use.size for use in uses) for uses in (loaded.request.uses, loaded.uses))
        assert planned == pytest.approx(taken, rel=0.1)
        assert taken == pytest.approx(placed.told("Vulkan0") * MIB, rel=0.02)
