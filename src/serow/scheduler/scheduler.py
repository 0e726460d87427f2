"""Who is loaded, who waits, who leaves.

Everything that happens (a request arrives or ends, a model is loaded or gone, a clock runs out) is a plain call on the event
loop that changes the state and then runs `_dispatch`: no locks, no polling. What takes time is one task for each resident,
`_live`, from making room to closing. `placement.plan` decides; nothing else does.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

from serow.devices.device import Device
from serow.devices.inventory import Inventory
from serow.engines.base import LoadRequest, Runner
from serow.engines.selection import Choice, Selection
from serow.errors import EngineDied, EngineError, LoadError, NotEnoughMemory, OutOfMemory, RequestError, SerowError, Unavailable
from serow.scheduler.backoff import Backoff
from serow.scheduler.counts import Counts
from serow.scheduler.devices import Devices
from serow.scheduler.hardware import Hardware
from serow.scheduler.loaded import LoadedModel, is_told
from serow.scheduler.notices import Notices
from serow.scheduler.plan import Decision, Load, Machine, Measure, Refuse, Use, Wait, plan, room
from serow.scheduler.queue import Waiter, WaitQueue
from serow.scheduler.resident import Demand, Key, Resident, State, key_of
from serow.scheduler.shrinking import shrunk
from serow.settings import Settings
from serow.store.model import Model

RunnerFactory = Callable[[LoadRequest], Runner]  # creates, does not load

_SHUTTING_DOWN = "the server is shutting down"
_QUEUE_FULL = "server busy, please try again: the queue is full"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """A place in a loaded model."""

    runner: Runner
    num_ctx: int  # tokens that each of `num_parallel` slots holds
    num_parallel: int
    load_duration: int  # ns between the place and the loaded model
    notices: Notices = field(default_factory=Notices)  # what is to be said of where it runs


class Scheduler:
    """Leases places in models that it loads, keeps and unloads. An async context manager; leaving it ends every engine."""

    def __init__(
        self,
        settings: Settings,
        start: RunnerFactory,
        devices: Devices | None = None,
        selection: Selection | None = None,
        inventory: Inventory | None = None,
    ) -> None:
        self.counts = Counts()
        self._selection = selection or Selection(settings)
        self._settings = settings
        self._start = start
        self._devices = devices or Devices()
        self._hardware = Hardware(inventory)
        self._measuring: dict[bool, asyncio.Task[None]] = {}  # for models that write, and for those that draw
        self._residents: list[Resident] = []
        self._queue = WaitQueue()
        self._backoff = Backoff()
        self._timer: asyncio.TimerHandle | None = None
        self._bereft: set[Key] = set()  # models that have lost a device
        self._is_stopped = False

    async def __aenter__(self) -> Self:
        """Nothing is loaded yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the leases within the grace time, then close every engine."""
        self.stop()
        try:
            await self._all_gone(self._settings.grace)
        finally:
            for resident in self._residents:
                resident.abort()
            await self._all_gone(None)  # a Runner's `close` has its own deadline
            for measuring in self._measuring.values():
                measuring.cancel()

    async def _all_gone(self, timeout: float | None) -> None:
        tasks = [resident.task for resident in self._residents if resident.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    @contextlib.asynccontextmanager
    async def lease(
        self,
        demand: Demand,
        keep_alive: float | None,
        client: str = "",
    ) -> AsyncIterator[Lease]:
        """Hold a place in the model, loaded if need be, while the context lasts.

        `keep_alive` in seconds, None keeps what is. Clients of a model take turns. Raises Unavailable (queue full, shutting
        down), NotEnoughMemory, RequestError (no engine has what it needs), or what the engine failed to load with.
        """
        waiter = Waiter(demand, keep_alive, client)
        try:
            self._arrive(waiter)
            resident = await waiter.placed()
            placed_at = time.perf_counter_ns()
            runner = await resident.ready()
            load = resident.request
            took = time.perf_counter_ns() - placed_at
            yield Lease(runner, load.options.num_ctx, load.num_parallel, took, resident.notices)
        except (EngineDied, NotEnoughMemory) as error:  # told by a request, before the system has told of the process
            if waiter.resident is not None and (isinstance(error, EngineDied) or waiter.resident.is_dead):
                raise self._died(waiter.resident, error) from error
            raise
        finally:
            self._leave(waiter)

    async def unload(self, model: Model) -> None:
        """Take the model out of memory after its requests in flight; returns when its process is gone."""
        self.forget(model)
        for resident in self._of(model):
            await resident.gone.wait()

    def forget(self, model: Model) -> None:
        """Unload without waiting: its files are about to change. The next lease loads it anew."""
        for resident in self._of(model):
            resident.retire()

    def stop(self) -> None:
        """No new work: who waits or whose model is loading gets Unavailable; leases go on."""
        self._is_stopped = True
        for waiter in self._queue.clear():
            waiter.error = Unavailable(_SHUTTING_DOWN)
            waiter.settled.set()
        for resident in self._residents:
            if resident.state is State.LOADING:
                resident.abort()
            else:
                resident.retire()
        self._dispatch()

    @property
    def num_waiting(self) -> int:
        """Requests that wait, for whatever model."""
        return len(self._queue)

    @property
    def devices(self) -> tuple[Device, ...]:
        """What there is beside the CPU, as it was measured last."""
        return self._hardware.told(self._residents)

    @property
    def is_busy(self) -> bool:
        """Whether anybody waits for a model, or uses one."""
        return bool(self.num_waiting or any(resident.num_running for resident in self._residents))

    def loaded(self) -> list[LoadedModel]:
        """What is in memory, the longest to stay first."""
        now = _now()
        told = [LoadedModel.of(each, now, self._queue.count(each.key)) for each in self._residents if is_told(each)]
        return sorted(told, key=lambda loaded: loaded.expires_at, reverse=True)

    def _of(self, model: Model) -> list[Resident]:
        """The model in memory, to complete texts or to embed them."""
        keys = (key_of(model), key_of(model, embeds=True))
        return [resident for resident in self._residents if resident.key in keys]

    def _arrive(self, waiter: Waiter) -> None:
        if self._is_stopped:
            raise Unavailable(_SHUTTING_DOWN)
        self._queue.push(waiter)
        self._dispatch()
        if waiter in self._queue and len(self._queue) > self._settings.max_queue:
            refused = self._queue.crowding_out(waiter)
            if refused is None:
                raise Unavailable(_QUEUE_FULL)
            self._queue.remove(refused)
            refused.error = Unavailable(_QUEUE_FULL)
            refused.settled.set()

    def _leave(self, waiter: Waiter) -> None:
        """The request is over, wherever it was: in the queue, loading, running."""
        if waiter.resident is not None:
            waiter.resident.give_back(_now())
        elif waiter in self._queue:
            self._queue.remove(waiter)
        self._dispatch()

    def _dispatch(self) -> None:
        """Bring everything up to date after an event."""
        for resident in self._residents:
            if resident.is_dead and not resident.unused.is_set():
                self._died(resident, EngineDied("it ended by itself"))
                resident.holds_nothing()
                resident.abort()
        for key in self._queue.models():
            while (waiter := self._queue.head(key)) and self._place(waiter):
                pass
        self._expire()

    @property
    def _machine(self) -> Machine:
        known, rooms = self._hardware, partial(self._hardware.rooms, residents=self._residents)
        free = self._devices.free_memory
        return Machine(free, rooms, known.lesson, known.is_measured, known.doubt, lambda each: each.is_due(_now()))

    def _measure(self, *, draws: bool) -> None:
        """Measure the devices, and decide again after it."""
        if draws not in self._measuring or self._measuring[draws].done():
            measuring = self._hardware.measure(self._residents, draws=draws)
            self._measuring[draws] = asyncio.create_task(measuring, name="measuring devices")
            self._measuring[draws].add_done_callback(lambda _: self._dispatch())

    def _place(self, waiter: Waiter) -> bool:
        """Settle one waiter if that can be done now."""
        waiter.error = self._backoff.error((waiter.demand.key, waiter.demand.model.digest), _now())
        if waiter.error is None:
            match self._plan(waiter):
                case RequestError() as error:
                    waiter.error = error
                case Wait():
                    return False
                case Measure():
                    self._measure(draws=waiter.demand.model.is_image)
                    return False
                case Refuse() as refused:
                    waiter.error = NotEnoughMemory(refused.words)
                case Use(resident):
                    waiter.resident = resident
                case Load() as load:
                    waiter.resident = self._load(waiter.demand, load)
        if waiter.resident is not None:
            waiter.resident.take(_now(), waiter.keep_alive, alone=waiter.demand.alone)
        self._queue.pop(waiter)
        waiter.settled.set()
        return True

    def _plan(self, waiter: Waiter) -> Decision | RequestError:
        try:
            choose = partial(self._selection.choose, waiter.demand.model, waiter.demand.needs)
            return plan(waiter.demand, self._residents, self._machine, self._settings, choose)
        except RequestError as error:  # no engine can do it
            return error

    def _load(self, demand: Demand, load: Load) -> Resident:
        model = demand.model
        for other in load.after:
            if not other.is_leaving and other.key != demand.key:
                self.counts.evictions[_name(other)] += 1
            other.retire()
        request = LoadRequest(
            model,
            load.options,
            load.num_parallel,
            load.choice.engine,
            load.choice.flags,
            demand.embeds,
            load.memory,
            load.prompt_cache,
            load.uses,
            load.num_layers,
        )
        if load.uses:
            self._hardware.forget()  # the next one is planned with what is free then: others load there, too
        planned, keep_alive = load.footprint, math.inf if model.is_remote else self._settings.keep_alive
        resident = Resident(request, planned, planned, keep_alive, uses=load.uses, is_automatic=not demand.options.num_ctx)
        resident.is_makeshift, resident.considered_at = load.is_makeshift, _now()
        resident.notices.add(*load.warnings)
        for sentence in load.warnings:
            logger.warning("%s", sentence)
        resident.task = asyncio.create_task(self._live(resident, load.after), name=f"engine of {model.name}")
        resident.task.add_done_callback(lambda task: self._gone(resident, task))
        self._residents.append(resident)
        return resident

    async def _live(self, resident: Resident, after: tuple[Resident, ...]) -> None:
        """A resident's whole life: make room, load, serve until it retires and nobody runs, close."""
        for other in after:
            await other.gone.wait()
        runner = resident.runner = self._start(resident.request)
        try:
            began = _now()
            try:
                await runner.load()
            except NotEnoughMemory as error:  # another program was faster, or the estimate wrong
                await runner.close()
                runner = await self._load_smaller(resident, error)
            self.counts.load(_name(resident), _now() - began)
            self._loaded(resident, runner)
            await self._hardware.verify(resident, self._residents)
            await resident.unused.wait()
            if resident.is_dead:
                self.counts.deaths[_name(resident)] += 1
                logger.warning("the engine of %s died", _name(resident))
        finally:
            resident.state = State.CLOSING
            resident.is_leaving = True
            await self._hardware.close(resident)

    async def _load_smaller(self, resident: Resident, error: NotEnoughMemory) -> Runner:
        """Once more, with less of it on devices or a smaller context; raises NotEnoughMemory with the numbers by device."""
        others = [each for each in self._residents if each is not resident]
        request = await self._hardware.smaller(resident, others, self._settings, room(self._devices.free_memory(), others, ()))
        if request is None:
            raise self._hardware.shortage(resident, error) from error
        logger.warning("%s", resident.notices.add(shrunk(resident.request, request, error)))
        resident.shrink(request, is_makeshift=self._hardware.is_short(resident.request))
        runner = resident.runner = self._start(request)
        try:
            await runner.load()
        except NotEnoughMemory as second:
            raise self._hardware.shortage(resident, second) from second
        return runner

    def _died(self, resident: Resident, error: EngineError) -> EngineError:
        """Use its engine no more for the model, where there is another one; the error that says so."""
        is_told, report = resident.is_leaving, resident.runner and resident.runner.report
        resident.retire()
        if report and report.is_lost and (is_told or resident.key not in self._bereft):  # once it is the device's fault
            self._bereft.add(resident.key)
            return error
        if (report and report.is_spent) or isinstance(error, OutOfMemory | NotEnoughMemory):  # no fault of the engine
            if not is_told:
                self._hardware.learn_shortage(resident.request, error.asked if isinstance(error, OutOfMemory) else 0)
            return error
        choice, model = Choice(resident.request.engine, resident.request.flags), resident.request.model
        if self._is_stopped or not self._selection.strike(choice, model, str(error)):
            return error
        message = f"{error}; the engine {choice.engine.name} is not used for this model any more"
        return type(error)(message, hint="ask again: another engine takes over")

    def _loaded(self, resident: Resident, runner: Runner) -> None:
        private = 0 if resident.is_remote else self._devices.private_memory(runner.pid)
        resident.measured(private, runner.report.measured(resident.request.uses))
        self._hardware.learn(resident.request, resident.uses)
        self._hardware.forget()
        resident.state = State.READY
        resident.rest(_now())
        resident.loaded.set()
        self._backoff.succeeded((resident.key, resident.request.model.digest))
        logger.info("loaded %s for %d requests at a time", resident.request.model.name, resident.request.num_parallel)
        self._dispatch()

    def _gone(self, resident: Resident, task: asyncio.Task[None]) -> None:
        """The end of a resident, however it came; whoever still waited for the load gets its error."""
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, NotEnoughMemory):  # no fault of the engine; the next request is planned with what is free then
            resident.error = failure
            self.counts.load_failures[_name(resident)] += 1
        elif isinstance(failure, EngineError):
            resident.error = self._died(resident, failure)
            self.counts.load_failures[_name(resident)] += 1
            if resident.error is failure and not resident.is_remote:  # no other engine is left to try
                self._backoff.failed((resident.key, resident.request.model.digest), failure, _now())
        elif isinstance(failure, SerowError):
            resident.error = failure
        elif failure is not None:
            logger.error("the task of an engine failed", exc_info=failure)
            resident.error = LoadError(f"{resident.request.model.name} could not be loaded")
        else:
            resident.error = Unavailable(_SHUTTING_DOWN)
        resident.loaded.set()
        resident.gone.set()
        self._residents.remove(resident)
        logger.info("%s left memory", resident.request.model.name)
        self._dispatch()

    def _expire(self) -> None:
        """Retire what nobody used for its keep_alive, and come back when the next one is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for resident in self._residents:
            if resident.expires_at <= _now() and not resident.is_leaving:
                resident.retire()
        due = min((resident.expires_at for resident in self._residents if not resident.is_leaving), default=math.inf)
        if due < math.inf:
            self._timer = asyncio.get_running_loop().call_at(due, self._dispatch)


def _name(resident: Resident) -> str:
    return resident.request.model.name.display_shortest


def _now() -> float:
    return asyncio.get_running_loop().time()
