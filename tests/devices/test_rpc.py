"""Placements seen for real: llama.cpp's server over two RPC devices. Needs a build that has them (SEROW_TEST_RPC)."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serow.engines.kinds import Feature, FlagSet
from serow.engines.llamacpp.runner import LlamaRunner
from serow.engines.selection import Choice, Selection
from serow.options import LoadOptions
from serow.scheduler.loaded import LoadedModel
from serow.scheduler.resident import Demand
from serow.scheduler.scheduler import Lease, Scheduler
from serow.settings import Settings
from serow.store.model import Model
from serow.store.name import Name
from serow.store.recipe import Recipe
from serow.store.store import Store
from tests.conftest import create, pulled
from tests.devices.rpc import VARIABLE, Sized, servers
from tests.engines.llamacpp.engines import chat, chunks_of, completion, text_of

pytestmark = pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"{VARIABLE} names no build with RPC devices")
DIRECTORY = Path(os.environ.get(VARIABLE, ""))
MIB = 1 << 20
DEADLINE = 120  # seconds
PULLED = ("smollm2:135m", "qwen2.5-coder:0.5b", "gemma3:270m")
SMALL = LoadOptions(num_ctx=1024, num_thread=1)


@pytest.fixture(scope="module")
def devices() -> Iterator[None]:
    """Two devices, which every llama-server that is started meanwhile is told of."""
    with servers(DIRECTORY) as addresses, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLAMA_ARG_RPC", addresses)
        yield


@pytest.fixture
def zoo_think(tmp_path: Path, zoo: Path) -> Model:
    """A model of 2 MiB, all five layers of it about the same."""
    store = Store(tmp_path)
    create(store, "zoo-think", zoo / "zoo-think.gguf")
    return store.resolve("zoo-think")


class Placed:
    """A scheduler over two devices of so many MiB."""

    def __init__(
        self, *memory: float, num_parallel: int = 1, selection: type[Selection] = Selection, **settings: object
    ) -> None:
        self.inventory = Sized(DIRECTORY, *(round(size * MIB) for size in memory))
        self.settings = Settings(llama_server=DIRECTORY / "llama-server", num_parallel=num_parallel, **settings)  # type: ignore[arg-type]
        self.runners: list[LlamaRunner] = []
        self.selection = selection(self.settings)

    def start(self, request: object) -> LlamaRunner:
        self.runners.append(LlamaRunner(request, self.settings))  # type: ignore[arg-type]
        return self.runners[-1]

    @asynccontextmanager
    async def scheduler(self) -> AsyncIterator[Scheduler]:
        async with (
            asyncio.timeout(DEADLINE),
            self.inventory,
            Scheduler(self.settings, self.start, None, self.selection, self.inventory) as scheduler,
        ):
            yield scheduler

    @asynccontextmanager
    async def loaded(self, model: Model, options: LoadOptions = SMALL) -> AsyncIterator[tuple[LoadedModel, Lease]]:
        async with self.scheduler() as scheduler, scheduler.lease(Demand(model, options), 60) as lease:
            (loaded,) = scheduler.loaded()
            yield loaded, lease

    def told(self, handles: tuple[str, ...] = ("",)) -> float:
        """MiB of the buffers in the engine's own words, of those whose line has one of these names."""
        log = self.runners[-1]._child.stderr
        lines = [line for line in log.splitlines() if any(handle in line for handle in handles)]
        return sum(float(size) for line in lines for size in re.findall(r"buffer size = +([\d.]+) MiB", line))


@pytest.mark.req("DEV-03", "DEV-04", "DEV-05", "DEV-06", "DEV-10")
@pytest.mark.parametrize(
    ("memory", "layers", "is_told"),
    [
        ((64, 32), {"RPC 1": 5}, False),  # 1. the one with the least room that suffices
        ((7, 7), {"RPC 0": 2, "RPC 1": 3}, False),  # 2. split
        ((6, 1), {"RPC 0": 2}, True),  # 4. as many as fit
        ((2, 1), {}, True),  # 5. the CPU
    ],
)
async def test_a_model_lies_where_it_was_planned_and_says_the_same_text(
    devices: None, zoo_think: Model, memory: tuple[float, ...], layers: dict[str, int], is_told: bool
) -> None:
    placed = Placed(*memory)
    async with placed.loaded(zoo_think) as (loaded, lease):
        runner = placed.runners[-1]
        assert {use.name: use.layers for use in loaded.uses} == layers
        assert bool(lease.notices.all) is is_told
        assert "122" in await text_of(runner, completion(await chat(runner, "What is 37 + 85?"), 16))
        if not layers:
            assert loaded.size_vram == 0
            return
        whole = sum(layers.values()) == 5
        own = placed.told() if whole else placed.told(tuple(use.handle.split("[")[0] for use in loaded.uses))
        assert loaded.size_vram == pytest.approx(own * MIB, rel=0.02)
        assert runner.report.num_layers == sum(layers.values())


@pytest.mark.req("DEV-02", "DEV-10")
@pytest.mark.parametrize("name", ["zoo-think", "zoo-vision", *(pytest.param(name, marks=pytest.mark.large) for name in PULLED)])
@pytest.mark.parametrize(("num_ctx", "num_parallel"), [(512, 1), (512, 8), (1024, 1), (1024, 8), (2048, 1), (2048, 8)])
async def test_the_estimate_is_within_a_tenth_of_what_is_taken(
    devices: None, name: str, num_ctx: int, num_parallel: int, tmp_path: Path, zoo: Path
) -> None:
    store = Store(tmp_path)
    create(store, name, pulled(name) if name in PULLED else zoo / f"{name}.gguf")
    placed = Placed(8192, 8192, num_parallel=num_parallel)
    async with placed.loaded(store.resolve(name), LoadOptions(num_ctx=num_ctx, num_thread=1)) as (loaded, _):
        planned = sum(use.size for use in loaded.request.uses)
        assert planned == pytest.approx(sum(use.size for use in loaded.uses), rel=0.1)


class Guessing(Selection):
    """The engine that the settings name, with the smaller model of whichever model names one."""

    def choose(self, model: Model, needs: frozenset[Feature]) -> Choice:
        return Choice(super().choose(model, needs).engine, FlagSet(drafts=True, draft_model=True))


class Packing(Selection):
    """The engine that the settings name, with keys and values of eight bits."""

    def choose(self, model: Model, needs: frozenset[Feature]) -> Choice:
        return Choice(super().choose(model, needs).engine, FlagSet(True, cache_type="q8_0"))


@pytest.mark.req("DEV-02", "DEV-09", "DEV-10")
@pytest.mark.parametrize("num_parallel", [1, 8])
async def test_keys_and_values_of_eight_bits_take_what_is_planned(devices: None, zoo_think: Model, num_parallel: int) -> None:
    placed = Placed(64, 1, num_parallel=num_parallel, selection=Packing)
    async with placed.loaded(zoo_think) as (loaded, _):
        planned, taken = (sum(use.cache for use in uses) for uses in (loaded.request.uses, loaded.uses))
        assert planned == pytest.approx(taken, rel=0.02)
        assert sum(use.size for use in loaded.request.uses) == pytest.approx(sum(use.size for use in loaded.uses), rel=0.1)


@pytest.mark.req("DEV-02", "DEV-03", "DEV-05", "DEV-10")
@pytest.mark.parametrize(
    ("memory", "num_parallel", "layers"), [((64, 1), 1, {"RPC 0": 5}), ((128, 1), 8, {"RPC 0": 5}), ((17, 1), 1, {"RPC 0": 4})]
)
async def test_a_smaller_model_lies_beside_the_first_layers_and_is_planned_and_told_with_them(
    devices: None, tmp_path: Path, zoo: Path, memory: tuple[float, ...], num_parallel: int, layers: dict[str, int]
) -> None:
    store = Store(tmp_path)
    create(store, "small", zoo / "zoo-think.gguf")
    for _ in store.create(Name.parse("m"), Recipe(source=Name.parse("small"), draft=Name.parse("small"))):
        continue
    placed = Placed(*memory, num_parallel=num_parallel, selection=Guessing)
    async with placed.loaded(store.resolve("m")) as (loaded, _):
        assert {use.name: use.layers for use in loaded.uses} == layers
        planned, taken = (sum(use.size for use in uses) for uses in (loaded.request.uses, loaded.uses))
        assert planned == pytest.approx(taken, rel=0.1)
        assert placed.runners[-1].report.num_layers == sum(layers.values())
        runner = placed.runners[-1]
        wanted = completion(
            await runner.tokenize("one two three four five six seven eight nine ten " * 4, add_special=False), 40
        )
        usage = (await chunks_of(runner, wanted))[-1].usage
        assert usage and usage.draft_accepted_count > 0


@pytest.mark.req("DEV-03", "DEV-10")
async def test_an_idle_model_leaves_a_device_for_one_that_fits_there(
    devices: None, zoo_think: Model, tmp_path: Path, zoo: Path
) -> None:
    store = Store(tmp_path)
    create(store, "zoo-vision", zoo / "zoo-vision.gguf")
    placed = Placed(18, 1)
    async with placed.scheduler() as scheduler:
        async with scheduler.lease(Demand(zoo_think, SMALL), 60):
            placed.inventory.held[0] = sum(use.size for use in scheduler.loaded()[0].uses)
        async with scheduler.lease(Demand(store.resolve("zoo-vision"), SMALL), 60):
            assert [each.model.name.model for each in scheduler.loaded()] == ["zoo-vision"]
            assert scheduler.loaded()[0].uses
