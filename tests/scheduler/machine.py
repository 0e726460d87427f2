"""A machine that we don't have: its memory is a number, and its engines are as fast or as broken as a test wants."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from serow.devices.device import Device
from serow.devices.inventory import Inventory
from serow.engines.base import LoadRequest
from serow.engines.kinds import Feature
from serow.engines.llamacpp.report import LoadReport
from serow.engines.selection import Selection
from serow.errors import DeviceGone, NotEnoughMemory
from serow.options import LoadOptions
from serow.scheduler.devices import Devices
from serow.scheduler.loaded import LoadedModel
from serow.scheduler.resident import Demand
from serow.scheduler.scheduler import Lease, Scheduler
from serow.settings import Settings
from serow.store.layers import Layers
from serow.store.model import Capability, Model
from serow.store.name import Name

GIB = 1 << 30
MIB = 1 << 20
LOAD_TIME = 1.0  # virtual seconds


def model(
    name: str = "a", size: int = GIB, *, capabilities: tuple[Capability, ...] = ("completion",), weights: str = ""
) -> Model:
    """A model of `size` bytes, trained for 8192 tokens, 16 KiB of context a token (64 MiB for 4096)."""
    return Model(
        name=Name.parse(name),
        digest=name,
        size=size,
        modified_at=datetime.now(UTC),
        weights=Path(weights or name),
        capabilities=capabilities,
        context_length=8192,
        kv_bytes=16 << 10,
    )


def layered(name: str, size: int = 4 * GIB, count: int = 8) -> Model:
    """A model of so many equal layers, whose context takes 8 MiB a layer for 4096 tokens."""
    each = size // count
    layers = Layers((each,) * (count - 1), each, 0, (2 << 10,) * (count - 1), (0,) * (count - 1), 0)
    return replace(model(name, size), layers=layers)


def where(loaded: LoadedModel) -> dict[str, int]:
    """How many of its layers lie on which card."""
    return {use.id: use.layers for use in loaded.uses}


def names(scheduler: Scheduler) -> list[str]:
    """Loaded models, the longest to stay first."""
    return [loaded.model.name.model for loaded in scheduler.loaded()]


class Engine:
    """A Runner without an engine."""

    def __init__(self, machine: "Machine", request: LoadRequest) -> None:
        self.machine = machine
        self.request = request
        self.pid = len(machine.engines) + 1
        self.report = LoadReport()
        self.is_alive = False
        self.is_closed = False
        self.num_running = 0

    @property
    def size(self) -> int:
        return self.machine.private_memory(self.pid)

    async def load(self) -> None:
        await asyncio.sleep(self.machine.load_time)
        if self.machine.load_errors:
            raise self.machine.load_errors.pop(0)
        if self.machine.cards:
            self.machine.cards.take(self)
        self.is_alive = True

    async def close(self) -> None:
        await asyncio.sleep(self.machine.close_time)
        self.is_alive = False
        if self.machine.cards:
            self.machine.cards.give_back(self)
        self.is_closed = True


class Cards(Inventory):
    """Devices that the wheel can use, as their driver would measure them. What an engine takes is what was planned for it.

    `others` is what other programs hold; `delay` how long the driver takes to give back what an engine has held.
    """

    def __init__(self, **memory: int) -> None:
        super().__init__()
        self.memory = memory
        self.others: dict[str, int] = {}
        self.delay = 0.0
        self.is_silent = False  # the driver does not answer
        self.tells_all = False  # it tells all of its memory as free, whoever holds some
        self.emulated: set[str] = set()  # those that are the CPU
        self.beside = 0  # bytes that it counts for a process beside what its engine says; 0: it does not tell of processes
        self.num_measured = 0
        self._held: list[tuple[Engine, str, int]] = []

    @property
    def may_have_devices(self) -> bool:
        return True

    def free(self, name: str) -> int:
        held = sum(size for _, other, size in self._held if other == name)
        return self.memory[name] - held - self.others.get(name, 0)

    def doubt(self, engine: str) -> str:
        return "" if self.num_measured else "what GPUs there are was not known in time"

    async def refresh(self, seconds: float = 5.0, engine: str | None = None) -> bool:
        if self.is_silent:
            await asyncio.sleep(seconds)
            return False
        await asyncio.sleep(0.001)
        self.num_measured += 1
        self.devices = tuple(
            Device(
                id=name,
                name=f"card {name}",
                kind="cuda",
                driver="a driver",
                total=total,
                free=total if self.tells_all else self.free(name),
                is_shared=name in self.emulated,
                is_emulated=name in self.emulated,
                handles={"wheel": f"CUDA{number}", "diffusers": f"cuda:{number}"},
                used={engine.pid: size + self.beside for engine, other, size in self._held if other == name and self.beside},
            )
            for number, (name, total) in enumerate(self.memory.items())
        )
        return True

    def take(self, engine: Engine) -> None:
        """Raises NotEnoughMemory as an engine does."""
        for use in engine.request.uses:
            if use.id not in self.memory:
                raise DeviceGone(f"could not load the model: there is no device {use.handle} any more")
            if use.size > self.free(use.id):
                raise NotEnoughMemory("could not load the model: there is not enough memory for the model")
            self._held.append((engine, use.id, use.size))

    def give_back(self, engine: Engine) -> None:
        def gone() -> None:
            self._held = [held for held in self._held if held[0] is not engine]

        asyncio.get_running_loop().call_later(self.delay, gone)


class Machine(Devices):
    """Memory and engines. `engines` lists all that were ever started."""

    def __init__(self, memory: int = 64 * GIB) -> None:
        super().__init__()
        self.memory = memory
        self.engines: list[Engine] = []
        self.load_time = LOAD_TIME
        self.close_time = 0.0
        self.load_errors: list[Exception] = []
        self.cards: Cards | None = None

    def start(self, request: LoadRequest) -> Engine:
        self.engines.append(Engine(self, request))
        return self.engines[-1]

    def free_memory(self) -> int:
        return self.memory - sum(self.private_memory(engine.pid) for engine in self.engines)

    def private_memory(self, pid: int) -> int:
        engine = self.engines[pid - 1]
        return engine.request.model.size if engine.is_alive else 0

    @property
    def kinds(self) -> list[str]:
        """Names of the engines that run now, as people choose them."""
        return [engine.request.engine.name for engine in self.engines if engine.is_alive]

    @property
    def loaded(self) -> list[str]:
        """Names of the models whose engines run now."""
        return [engine.request.model.name.model for engine in self.engines if engine.is_alive]

    def scheduler(self, selection: Selection | None = None, **settings: float) -> Scheduler:
        """A scheduler for this machine."""
        return Scheduler(Settings(**settings), self.start, self, selection, self.cards)  # type: ignore[arg-type]


class MachineWithCards(Machine):
    """One with cards of so many GiB."""

    cards: Cards

    def __init__(self, **cards: int) -> None:
        super().__init__()
        self.cards = Cards(**{name: size * GIB for name, size in cards.items()})


_RUNNING: "set[Request]" = set()


class Request:
    """A client that keeps its lease until it is told to end."""

    def __init__(
        self,
        scheduler: Scheduler,
        wanted: Model,
        *,
        keep_alive: float | None = None,
        client: str = "",
        options: LoadOptions | None = None,
        alone: bool = False,
        needs: frozenset[Feature] = frozenset(),
    ) -> None:
        self.lease: Lease | None = None
        self.ending = asyncio.Event()
        self._has_lease = asyncio.Event()
        context = scheduler.lease(Demand(wanted, options or LoadOptions(), needs, alone), keep_alive, client)

        async def live() -> None:
            async with context as self.lease:
                self._has_lease.set()
                await self.ending.wait()

        self.task = asyncio.create_task(live())
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())  # not every test asks for it
        _RUNNING.add(self)  # a client goes on until it is told to end, also when the test has forgotten it
        self.task.add_done_callback(lambda _: _RUNNING.discard(self))

    async def begun(self) -> Self:
        """Wait for the lease; raises what the request got instead."""
        waiting = asyncio.create_task(self._has_lease.wait())
        await asyncio.wait({self.task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.task.done():
            await self.task
        return self

    async def end(self) -> None:
        """Finish as a good client does."""
        self.ending.set()
        await self.task

    async def leave(self) -> None:
        """Go away, wherever the request is."""
        self.task.cancel()
        await asyncio.wait({self.task})

    @property
    def is_running(self) -> bool:
        return self.lease is not None and not self.task.done()


async def come_again(scheduler: Scheduler) -> None:
    """A request for "m" that leaves at once, after the minute for which a model stays where it can lie better."""
    await asyncio.sleep(61)
    await (await Request(scheduler, layered("m")).begun()).end()


async def told(request: Request) -> list[str]:
    """What is said with the first answer."""
    await request.begun()
    assert request.lease is not None
    return request.lease.notices.take()
