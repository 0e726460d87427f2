"""The devices as the scheduler plans with them: measured before a load, learned from after it, waited for after an unload."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec

from serow.devices.device import Device, usable
from serow.devices.inventory import PICTURES, Inventory
from serow.devices.use import Use
from serow.engines.base import LoadRequest
from serow.engines.selection import Choice
from serow.errors import NotEnoughMemory
from serow.scheduler.fitting import Room, to_plan_with
from serow.scheduler.footprint import by_device
from serow.scheduler.need import Lessons, estimate
from serow.scheduler.plan import choose_parallel, least_parallel, memory_needed
from serow.scheduler.resident import Resident, State
from serow.scheduler.shrinking import smaller
from serow.settings import Settings
from serow.store.model import Model
from serow.system.limits import family

_PATIENCE = 5.0  # seconds that a decision waits for a measurement, and an unload for its memory
_DRAWING_PATIENCE = 20.0  # that one waits for what pictures are drawn on, once: torch has to be imported for it
_HOLDS = 1.0  # seconds that a measurement is good for
_POLL = 0.1
_STILL = 1.0  # seconds in which no more than so many bytes of a device come or go, if nobody loads there
_STIR = 16 << 20
_DOUBT = 10  # a driver may count one part in so many less than an engine says
_MOST_BESIDE = 2 << 30  # bytes that a driver may take beside for one process
_MORE = 256 << 20  # bytes to work in that a model gets at least where it ran out of them
_DRAWS = PICTURES.engine
_BACK = 0.9  # part of what a model held that has to be free again: others go on working meanwhile
_log = logging.getLogger(__name__)


class Hardware:
    """An Inventory, and what loads have taught. Nothing is measured for a machine, or an engine, without devices."""

    def __init__(self, inventory: Inventory | None) -> None:
        self._inventory = inventory
        self._lessons = Lessons()
        self._holds_until = 0.0  # of the event loop's clock
        self._waits_for_drawing = True  # until that is known, or was too long in coming
        self._num_changes = 0
        self._returning: set[asyncio.Event] = set()  # of engines that end, until their memory is back

    @property
    def devices(self) -> tuple[Device, ...]:
        """As they were measured last."""
        return self._inventory.devices if self._inventory else ()

    def told(self, residents: Sequence[Resident]) -> tuple[Device, ...]:
        """The same, with no more free than what our models leave: some drivers tell all of it whatever is taken."""
        held, yet = (by_device(own) for own in ((each.memory for each in residents), (each.uncounted for each in residents)))
        most = {each.id: max(0, each.total - held.get(each.id, 0) + yet.get(each.id, 0)) for each in self.devices}
        return tuple(msgspec.structs.replace(each, free=min(each.free, most[each.id])) for each in self.devices)

    def forget(self) -> None:
        """What was measured holds no more: something was loaded or unloaded."""
        self._holds_until = 0.0
        self._num_changes += 1

    def is_measured(self, model: Model) -> bool:
        """Whether a decision may be made now; else `measure` has to be awaited first.

        What comes back in this moment is neither free nor held: it would be planned with twice, or not at all.
        """
        if self._inventory is None:
            return True
        is_known = asyncio.get_running_loop().time() < self._holds_until or not self._inventory.may_have_devices
        return is_known and not self._returning and not (model.is_image and self._waits_for_drawing)

    async def measure(self, residents: list[Resident], *, draws: bool = False) -> None:
        """Measure what is free; whoever loads has yet to take what the driver does not count as its own by now.

        `draws`: what pictures are drawn on has to be known, too.
        """
        if self._inventory is None:
            return
        for back in list(self._returning):
            await back.wait()
        before = self._num_changes
        patience = _DRAWING_PATIENCE if draws and self._waits_for_drawing else _PATIENCE
        if not await self._inventory.refresh(patience, _DRAWS if draws else ""):
            _log.warning("looking at the GPUs takes longer than %g s: what was known before holds", patience)
        self._waits_for_drawing = self._waits_for_drawing and not draws
        for resident in residents:
            if resident.state is State.LOADING and resident.memory.devices and resident.runner:
                taken = self._taken(resident.runner.pid)
                yet = {name: max(0, size - taken.get(name, 0)) for name, size in resident.memory.devices.items()}
                resident.uncounted = resident.uncounted.with_devices(yet)
        if self._num_changes == before:  # else it is of a moment before something was loaded or unloaded
            self._holds_until = asyncio.get_running_loop().time() + _HOLDS

    def _taken(self, pid: int) -> dict[str, int]:
        """Bytes of each device that the driver counts as this process's, or its children's."""
        pids = family(pid) if pid else []
        return {device.id: sum(device.used.get(each, 0) for each in pids) for device in self.devices}

    def rooms(self, model: Model, choice: Choice, residents: Sequence[Resident]) -> list[Room]:
        """The devices that the engine can use, in its order; what these have yet to take still counts as free."""
        engine = _engine(model, choice)
        return [
            Room(
                id=device.id,
                handle=device.handles[engine],
                kind=device.kind,
                free=device.free,
                name=device.name,
                total=device.total,
                context=self._lessons.context.get(device.kind, 0),
                is_shared=device.is_shared,
                is_emulated=device.is_emulated,
            )
            for device in usable(self.told(residents), engine)
        ]

    def doubt(self, model: Model, choice: Choice) -> str:
        """In words why nothing is known of the engine's devices, "" where something is."""
        return self._inventory.doubt(_engine(model, choice)) if self._inventory else ""

    def lesson(self, model: Model, choice: Choice) -> int:
        """What the model worked in beyond its estimate when it was loaded last."""
        return self._lessons.lesson(_key(model, choice))

    def learn(self, request: LoadRequest, taken: tuple[Use, ...]) -> None:
        """A load has shown what it takes."""
        self._lessons.learn(_key(request.model, Choice(request.engine, request.flags)), request.uses, taken)

    async def verify(self, resident: Resident, residents: list[Resident]) -> None:
        """Hold what the engine says it took against what the driver counts as its process's, where that is told.

        The driver's own share is learned from it; an engine that holds far less, or more, than it says is told in the log.
        """
        runner = resident.runner
        if runner is None or not resident.uses or all(device.measured_by for device in self.devices):
            return
        await self.measure(residents)
        counted, kinds = self._taken(runner.pid), {device.id: device.kind for device in self.devices}
        for use in resident.uses:
            if not (found := counted.get(use.id, 0)):
                continue  # the driver tells nothing of processes, or the card has vanished
            beside = found - use.size
            if not -use.size // _DOUBT <= beside <= _MOST_BESIDE:
                _log.warning(
                    "the engine says that it holds %d MiB of %s, its driver counts %d MiB",
                    use.size >> 20,
                    use.name,
                    found >> 20,
                )
                continue
            self._lessons.context[kinds[use.id]] = max(0, beside)

    def learn_shortage(self, request: LoadRequest, asked: int) -> None:
        """It ran out of memory at work: it is planned with more room from now on."""
        if request.uses:
            self._lessons.fall_short(_key(request.model, Choice(request.engine, request.flags)), max(asked, _MORE))

    async def smaller(
        self, resident: Resident, others: list[Resident], settings: Settings, free_memory: int
    ) -> LoadRequest | None:
        """The next smaller way to load what did not fit, by what is free now, in main memory too; None where there is none."""
        request = resident.request
        await self._settle({use.id for use in request.uses}, others)
        choice = Choice(request.engine, request.flags)
        lesson = self.lesson(request.model, choice)
        if request.uses:  # the slots of a model that a device holds whole are too many for one that it does not
            request = replace(request, num_parallel=least_parallel(request.model, settings))
        need = estimate(request.model, request.options, request.num_parallel, lesson, request.flags)
        used = {use.id for use in request.uses}
        rooms = [room for room in self.rooms(request.model, choice, others) if room.id in used]
        rooms = to_plan_with(rooms, settings.gpu_overhead, by_device(other.uncounted for other in others))
        found = smaller(request, need, rooms, is_automatic=resident.is_automatic)
        if found and request.uses and not found.uses:
            found = _on_the_cpu(found, choice, free_memory, settings)
        return found if found and found.memory <= free_memory else None

    async def _settle(self, used: set[str], residents: list[Resident]) -> None:
        """Measure until what is free stands still: who was faster may have yet to take the rest of what it loads."""
        clock = asyncio.get_running_loop().time
        deadline, free, since = clock() + _PATIENCE, dict[str, int](), 0.0
        while True:
            self.forget()
            await self.measure(residents)
            now = {device.id: device.free for device in self.devices if device.id in used}
            if not free or any(abs(size - free.get(name, 0)) > _STIR for name, size in now.items()):
                free, since = now, clock()
            if not now or clock() >= min(deadline, since + _STILL):
                return
            await asyncio.sleep(_POLL)

    def is_short(self, request: LoadRequest) -> bool:
        """Whether others have taken what was planned for it, or the device itself is gone; else the estimate was too low."""
        free = {device.id: device.free for device in self.devices}
        return any(free.get(use.id, 0) < use.size for use in request.uses)

    def shortage(self, resident: Resident, error: NotEnoughMemory) -> NotEnoughMemory:
        """The error with the numbers of each device that was to hold something."""
        planned = {use.id: use.size for use in resident.request.uses}
        told = [
            f"{device.name} has {device.free >> 20} MiB free, {planned[device.id] >> 20} MiB were planned"
            for device in self.devices
            if device.id in planned
        ]
        return NotEnoughMemory("; ".join([str(error), *told]))

    async def close(self, resident: Resident) -> None:
        """End the engine of a model, and wait until what it held can be planned with."""
        runner = resident.runner
        if runner is None:
            return
        before = await self._free_by_driver() if resident.uses and runner.is_alive else {}
        with self._coming_back(resident):
            await runner.close()
            await self._given_back(resident, before)

    @contextlib.contextmanager
    def _coming_back(self, resident: Resident) -> Iterator[None]:
        """Nothing is planned for devices while an engine ends that has held some of them."""
        back = asyncio.Event()
        if resident.uses:
            self._returning.add(back)
        try:
            yield
        finally:
            resident.holds_nothing()
            self._returning.discard(back)
            back.set()
            self.forget()

    async def _given_back(self, resident: Resident, before: dict[str, int]) -> None:
        """Wait until the drivers report as free what a model held, that was `before` its end; what is missing is told."""
        held = {use.id: use.size for use in resident.uses if use.id in before}
        if self._inventory is None or not held:
            return
        clock = asyncio.get_running_loop().time
        deadline = clock() + _PATIENCE
        while missing := self._missing(held, before):
            if clock() > deadline:
                for name, size in missing.items():
                    _log.warning("%d MiB of %s did not come back within %g s", size >> 20, name, _PATIENCE)
                return
            await asyncio.sleep(_POLL)
            await self._inventory.refresh(max(0.0, deadline - clock()))

    def _missing(self, held: dict[str, int], before: dict[str, int]) -> dict[str, int]:
        """Bytes by the device's name that are not free yet; a device that has vanished owes nothing."""
        return {
            device.name: before[device.id] + held[device.id] - device.free
            for device in self.devices
            if device.id in held and device.free < before[device.id] + _BACK * held[device.id]
        }

    async def _free_by_driver(self) -> dict[str, int]:
        """Bytes that are free now on each device whose driver tells it; an engine's own word is too rough to wait for."""
        if self._inventory is None or not self._inventory.may_have_devices:
            return {}
        await self._inventory.refresh(_PATIENCE)
        return {device.id: device.free for device in self.devices if not device.measured_by}


def _on_the_cpu(request: LoadRequest, choice: Choice, free_memory: int, settings: Settings) -> LoadRequest:
    """With as many slots as main memory holds."""
    model, options = request.model, request.options
    num_parallel = choose_parallel(model, options, choice, free_memory - request.prompt_cache, settings)
    memory = memory_needed(model, options, num_parallel, request.flags) + request.prompt_cache
    return replace(request, num_parallel=num_parallel, memory=memory)


def _engine(model: Model, choice: Choice) -> str:
    return _DRAWS if model.is_image else choice.engine.name


def _key(model: Model, choice: Choice) -> tuple[object, ...]:
    return model.weights, model.projector, _engine(model, choice), choice.engine.build, choice.flags
