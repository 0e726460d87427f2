"""Where a request runs: pure decisions from what is in memory, what is free and what is asked for.

They are asked again for every waiting request at every event, so they change nothing and must not log. Which devices hold a
model is decided in `placement`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec

from serow.devices.use import Use as DeviceUse
from serow.engines.kinds import DEFAULT_FLAGS, FlagSet
from serow.engines.llamacpp.spec import prompt_cache_size, whole_blocks
from serow.engines.selection import WHEEL_CHOICE, Choice
from serow.errors import RequestError
from serow.options import LoadOptions
from serow.scheduler.fitting import Room, freed, to_plan_with, with_slots
from serow.scheduler.footprint import Footprint, by_device
from serow.scheduler.need import Need, cache_bytes, estimate, process_of
from serow.scheduler.placement import Placement, Wish, place
from serow.scheduler.resident import Demand, Resident, State
from serow.settings import Settings
from serow.store.model import Model
from serow.system.units import binary_size

REMOTE_PARALLEL = 256  # requests at a time that one engine at an address gets, which has a queue of its own
_ON_A_DEVICE = "model requires more GPU memory on one device"
_SHARE = 4  # the automatic choice gives one part in so many of the free memory to contexts
_CACHE_SHARE = 8  # and one in so many of what is left then to prompts that left their slot
_DEVICE_SHARE = 2  # as _SHARE, of what is free on a device
MAX_DEVICE_SLOTS = 64  # of a model that a device holds whole: its streams share each pass over the weights


@dataclass(frozen=True)
class Use:
    """There is a place in it, also while it loads."""

    resident: Resident


@dataclass(frozen=True)
class Load:
    """Load the model once all of `after` are gone; those that are not leaving yet are to retire."""

    options: LoadOptions
    num_parallel: int
    memory: int  # bytes of main memory
    after: tuple[Resident, ...] = ()
    choice: Choice = WHEEL_CHOICE
    prompt_cache: int = 0  # bytes of `memory` for prompts that left their slot
    uses: tuple[DeviceUse, ...] = ()  # what devices hold
    num_layers: int = 0  # that devices could hold
    contexts: tuple[tuple[str, int], ...] = ()  # bytes that drivers take beside, by device
    warnings: tuple[str, ...] = ()
    is_makeshift: bool = False  # nothing was known of the devices

    @property
    def footprint(self) -> Footprint:
        """All that is planned for it."""
        return Footprint(self.memory, {use.id: use.size for use in self.uses}) + Footprint(0, dict(self.contexts))


@dataclass(frozen=True)
class Wait:
    """Ask again at the next event."""


@dataclass(frozen=True)
class Measure:
    """Ask again once the devices were measured: what is known of them is of another moment."""


@dataclass(frozen=True)
class Refuse:
    """The memory does not suffice, whoever leaves. Both in bytes."""

    needed: int
    available: int
    what: str = "model requires more system memory"

    @property
    def words(self) -> str:
        """As the peer has them."""
        needed, available = binary_size(self.needed), binary_size(self.available)
        return f"{self.what} ({needed}) than is available ({available})"


Decision = Use | Load | Wait | Measure | Refuse


@dataclass(frozen=True)
class Machine:
    """What there is to run on, asked only when a model has to be loaded: bytes of main memory, and the devices of an engine."""

    free_memory: Callable[[], int]
    rooms: Callable[[Model, Choice], Sequence[Room]] = lambda model, choice: ()
    lesson: Callable[[Model, Choice], int] = lambda model, choice: 0  # bytes that it worked in beyond its estimate
    is_measured: Callable[[Model], bool] = lambda model: True
    doubt: Callable[[Model, Choice], str] = lambda model, choice: ""  # why nothing is known of the devices
    is_due: Callable[[Resident], bool] = lambda resident: False  # whether it may be loaded anew where it lies better


def plan(
    demand: Demand,
    residents: Sequence[Resident],
    machine: Machine,
    settings: Settings,
    choose: Callable[[], Choice] = Choice,
) -> Decision:
    """Decide on the longest waiting request of a model; `machine` and `choose` are asked only when it has to be loaded.

    `choose` names the engine to load it in. One that has it in memory already will do as well, if it can do what the request
    needs; the same model in an engine that can't counts like any other model.

    1. It is in memory with options that fit: Use a free place, or Wait for one; who wants to be alone waits for all of them.
       One that is due is loaded anew instead if devices would hold more of it by now.
    2. It is loading with other options: Wait, so that no chain of loads can grow.
       An engine at an address takes nothing here: Load (REM-06).
    3. Not all memory together would suffice: Refuse.
    4. Otherwise Load, where `place` says, after as few as make room, in this order:
       a. the same weights with other options, which have to be gone in any case
       b. those that are leaving already
       c. idle ones, the least recently used first
       d. busy ones, the least recently used first, after their requests in flight
    5. What is in the way is still loading: Wait.
    """
    key = demand.key
    own = [each for each in residents if each.key == key and each.request.engine.can(demand.needs)]
    here = [each for each in own if not each.is_leaving and fits(demand.model, each.request.options, demand.options)]
    if here and not machine.is_due(here[0]):
        return Use(here[0]) if here[0].has_place(alone=demand.alone) else Wait()  # 1
    if any(resident.state is State.LOADING for resident in own):
        return Wait()  # 2
    options = resolve(demand.model, demand.options, settings)
    if demand.model.is_remote:
        return Load(options, settings.num_parallel or REMOTE_PARALLEL, 0, choice=choose())
    if not machine.is_measured(demand.model):
        return Measure()
    found = _load(_Wanted(demand.model, options, choose(), settings), own, residents, machine)
    return Use(here[0]) if here and not _is_better(found, here[0]) else found


def _is_better(found: Decision, resident: Resident) -> bool:
    """Whether devices would hold more layers of it than they do."""
    return isinstance(found, Load) and sum(use.layers for use in found.uses) > sum(use.layers for use in resident.uses)


@dataclass(frozen=True)
class _Wanted:
    """What is to be loaded."""

    model: Model
    options: LoadOptions
    choice: Choice
    settings: Settings

    @property
    def names_devices(self) -> bool:
        """Whether the request asks for some."""
        return self.options.num_gpu > 0 or self.options.main_gpu >= 0

    def need(self, num_parallel: int, lesson: int) -> Need:
        """What it takes with so many slots."""
        return estimate(self.model, self.options, num_parallel, lesson, self.choice.flags)

    def main(self, num_parallel: int) -> int:
        """Bytes of main memory where no device holds anything."""
        return memory_needed(self.model, self.options, num_parallel, self.choice.flags)


def _load(wanted: _Wanted, own: list[Resident], residents: Sequence[Resident], machine: Machine) -> Decision:
    lesson = machine.lesson(wanted.model, wanted.choice)
    rooms = _rooms(wanted, machine.rooms(wanted.model, wanted.choice), own, residents)
    if rooms and all(each.is_emulated for each in rooms) and not wanted.names_devices:  # the CPU itself is faster
        wanted = replace(wanted, options=msgspec.structs.replace(wanted.options, num_gpu=0))
    need = wanted.need(least_parallel(wanted.model, wanted.settings), lesson)
    others = by_leave(each for each in residents if each not in own)
    idle = [each for each in others if each.is_leaving or not each.num_running]
    if wanted.model.is_vllm:  # whole on one device, or not at all
        placed = place(need, rooms, others, Wish())
        if rooms and not placed.uses:
            is_loading = any(each.state is State.LOADING for each in residents)
            return (
                Wait() if is_loading else Refuse(need.total(1) + need.compute, max(room.free for room in rooms), _ON_A_DEVICE)
            )
    else:
        placed = place(need, rooms, idle, Wish(wanted.options.num_gpu, spread=wanted.settings.spread))
    needed, leaving = _main(wanted, need, rooms, placed), [*own, *placed.after]
    found = _make_room(wanted, needed, leaving, others, residents, machine.free_memory())
    if not isinstance(found, Load):
        return found
    if rooms:
        load = _on_devices(found, wanted, need, rooms, placed, lesson)  # 4
    else:
        load = _without_devices(found, wanted, need, machine.doubt(wanted.model, wanted.choice))
    return replace(load, warnings=(*wanted.choice.warnings, *load.warnings))


def _make_room(
    wanted: _Wanted, needed: int, after: list[Resident], others: list[Resident], residents: Sequence[Resident], free: int
) -> Load | Wait | Refuse:
    """Main memory for so many bytes once all of `after` are gone, and of `others` where that does not suffice."""
    model, options, settings = wanted.model, wanted.options, wanted.settings
    available = room(free, residents, residents)
    if needed > available:
        return Refuse(needed, max(available, 0))  # 3
    gone = set(after)
    leavers = [each for each in others if each not in gone]
    while needed > room(free, residents, after) or _is_crowded(residents, after, settings):
        if not leavers:
            return Wait()  # 5
        after.append(leavers.pop(0))
    left = room(free, residents, after)
    num_parallel = choose_parallel(model, options, wanted.choice, left, settings)
    memory = needed + wanted.main(num_parallel) - wanted.main(least_parallel(model, settings))
    cache = choose_prompt_cache(model, left - memory)
    return Load(options, num_parallel, memory + cache, tuple(after), wanted.choice, cache)


def _main(wanted: _Wanted, need: Need, rooms: Sequence[Room], placed: Placement) -> int:
    """Bytes of main memory, devices that share it included."""
    least = least_parallel(wanted.model, wanted.settings)
    if not rooms or not placed.uses:
        return wanted.main(least)
    shared = {room.id for room in rooms if room.is_shared}
    return need.main(placed.layers) + sum(use.size for use in placed.uses if use.id in shared)


def _rooms(wanted: _Wanted, rooms: Sequence[Room], own: Sequence[Resident], residents: Sequence[Resident]) -> list[Room]:
    """The devices that may be used, and what can be planned with on each once `own` are gone; raises RequestError."""
    number = wanted.options.main_gpu
    if rooms and number >= len(rooms):
        names = ", ".join(f"{place} is {room.name or room.handle}" for place, room in enumerate(rooms))
        raise RequestError(f'option "main_gpu" is {number}, there is no such device: {names}')
    real = [each for each in rooms if not each.is_emulated]
    chosen = [rooms[number]] if rooms and number >= 0 else real or rooms
    yet = by_device(resident.uncounted for resident in residents)
    return freed(to_plan_with(chosen, wanted.settings.gpu_overhead, yet), by_device(resident.memory for resident in own))


def _on_devices(load: Load, wanted: _Wanted, need: Need, rooms: Sequence[Room], placed: Placement, lesson: int) -> Load:
    """The load with what devices hold: more slots where they hold all of it, one group of them where they hold a part."""
    there = {room.id: room for room in freed(rooms, by_device(resident.memory for resident in placed.after))}
    num_parallel, uses = load.num_parallel, placed.uses
    if uses:
        num_parallel = least_parallel(wanted.model, wanted.settings)
        memory = _main(wanted, need, rooms, placed) + load.prompt_cache
        if placed.layers == need.count and not (wanted.model.is_image or wanted.settings.num_parallel):
            num_parallel = _device_slots(uses, there, wanted.choice)
            more = wanted.need(num_parallel, lesson)
            uses = with_slots(more, uses)
            memory += more.host - need.host
        load = replace(load, memory=memory)
    return replace(
        load,
        num_parallel=num_parallel,
        uses=uses,
        num_layers=need.count,
        contexts=tuple((use.id, there[use.id].context) for use in uses),
        warnings=_words(wanted, need, list(there.values()), placed),
    )


def _device_slots(uses: Sequence[DeviceUse], there: dict[str, Room], choice: Choice) -> int:
    """How many contexts a share of what is free beside the first one holds on each device."""
    most = MAX_DEVICE_SLOTS if choice.flags.num_parallel >= WHEEL_CHOICE.flags.num_parallel else choice.flags.num_parallel
    for use in uses:
        spare = there[use.id].free - there[use.id].context - use.size
        most = min(most, 1 + spare // _DEVICE_SHARE // max(use.cache, 1))
    return max(1, most)


def _words(wanted: _Wanted, need: Need, rooms: Sequence[Room], placed: Placement) -> tuple[str, ...]:
    """What is said of a model that a device could have held, and does not or not all of it, unless it was asked for so."""
    used = {use.id for use in placed.uses}
    if emulated := [room.name or room.handle for room in rooms if room.is_emulated and room.id in used]:
        return (f"{wanted.model.name.display_shortest} runs on {emulated[0]}, which is the CPU: without num_gpu it is faster",)
    asked = need.count if wanted.options.num_gpu < 0 or wanted.model.is_vllm else min(wanted.options.num_gpu, need.count)
    if placed.layers >= asked:
        return ()
    where = "all on the CPU" if not placed.layers else f"{need.count - placed.layers} of {need.count} layers on the CPU"
    if wanted.model.is_image and placed.layers:
        where = "with its parts taking turns on the device"
    free = ", ".join(f"{room.name or room.handle} has {_mib(room.free)} to plan with" for room in rooms)
    needed = _mib(sum(need.layers(asked)) + need.compute + need.beside + max(room.context for room in rooms))
    name = wanted.model.name.display_shortest
    help = "" if wanted.model.is_image else "a smaller num_ctx, SEROW_NUM_PARALLEL=1 or "
    return (f"{name} runs {where}: it needs {needed}, {free}; {help}other models unloaded would help",)


def _without_devices(load: Load, wanted: _Wanted, need: Need, doubt: str) -> Load:
    """The load where the engine has no device, and what is said of options for them; on the CPU where none is known of."""
    if not doubt:
        return replace(load, warnings=_in_vain(wanted))
    name = wanted.model.name.display_shortest
    words = (
        f"{name} runs on the CPU: {doubt}; who asks for it a minute later has it planned anew, or after serow stop {name}",
    )
    is_wish = wanted.options.num_gpu == 0
    return replace(load, num_layers=need.count, warnings=() if is_wish else words, is_makeshift=not is_wish)


def _in_vain(wanted: _Wanted) -> tuple[str, ...]:
    asked = {"num_gpu": wanted.options.num_gpu > 0, "main_gpu": wanted.options.main_gpu > 0}
    return tuple(
        f'option "{name}" was ignored: the engine {wanted.choice.engine.name} has no device to use here'
        for name, is_asked in asked.items()
        if is_asked
    )


def _mib(size: int) -> str:
    return f"{max(size, 0) / (1 << 20):.0f} MiB"


def by_leave(residents: Iterable[Resident]) -> list[Resident]:
    """Those that can be made to leave, in the order in which they go; not those that have yet to serve anybody."""
    here = [resident for resident in residents if not resident.is_remote]
    can_leave = [resident for resident in here if resident.is_leaving or resident.state is State.READY]
    return sorted(can_leave, key=lambda resident: (not resident.is_leaving, resident.num_running > 0, resident.last_used))


def room(free: int, residents: Iterable[Resident], gone: Iterable[Resident]) -> int:
    """Bytes for a new model once `gone` are gone: what others have yet to take is not free."""
    return free - sum(resident.uncounted.main for resident in residents) + sum(resident.memory.main for resident in gone)


def _is_crowded(residents: Sequence[Resident], gone: Sequence[Resident], settings: Settings) -> bool:
    most = settings.max_loaded_models
    return most > 0 and most <= sum(not resident.is_remote for resident in residents) - len(gone)


def fits(model: Model, loaded: LoadOptions, wanted: LoadOptions) -> bool:
    """Whether the model loaded with `loaded` serves `wanted` without a reload (LIFE-03).

    What a request leaves unset (num_ctx 0, num_gpu and main_gpu -1, use_mmap None, num_thread 0) is no wish for anything else.
    """
    if model.is_remote:
        return True
    if model.is_vllm:
        return _bounded(model, wanted.num_ctx) <= loaded.num_ctx and wanted.main_gpu in (-1, loaded.main_gpu)
    return (
        _bounded(model, wanted.num_ctx) <= loaded.num_ctx
        and wanted.num_gpu in (-1, loaded.num_gpu)
        and wanted.use_mmap in (None, loaded.use_mmap)
        and wanted.num_thread in (0, loaded.num_thread)
        and wanted.num_batch == loaded.num_batch
        and wanted.main_gpu in (-1, loaded.main_gpu)
    )


def resolve(model: Model, options: LoadOptions, settings: Settings) -> LoadOptions:
    """Fill in what is not asked for from the settings, num_ctx as the engine will have it."""
    num_ctx = _bounded(model, options.num_ctx or settings.context_length)
    return msgspec.structs.replace(options, num_ctx=num_ctx, num_thread=options.num_thread or settings.num_thread)


def _bounded(model: Model, num_ctx: int) -> int:
    """Whole blocks of context, never beyond what the model was trained for."""
    blocks = whole_blocks(num_ctx)
    return min(blocks, model.context_length or blocks)


def least_parallel(model: Model, settings: Settings) -> int:
    """The fewest slots that will do: a pipeline draws one picture at a time, and a setting is kept."""
    return 1 if model.is_image else settings.num_parallel or 1


def choose_parallel(model: Model, options: LoadOptions, choice: Choice, available: int, settings: Settings) -> int:
    """How many requests run together (LIFE-02): as set, or as many contexts as a modest share of the memory holds."""
    if model.is_image or settings.num_parallel:
        return least_parallel(model, settings)
    slot = max(cache_bytes(model, choice.flags) * options.num_ctx, 1)
    spare = available - memory_needed(model, options, 0, choice.flags)
    return max(1, min(choice.flags.num_parallel, spare // _SHARE // slot))


def choose_prompt_cache(model: Model, spare: int) -> int:
    """Bytes for prompts that left their slot: a modest share of the memory that would be left, in whole MiB."""
    share = 0 if model.is_image or model.is_vllm else min(prompt_cache_size(), max(0, spare) // _CACHE_SHARE)
    return share >> 20 << 20


def memory_needed(model: Model, options: LoadOptions, num_parallel: int, flags: FlagSet = DEFAULT_FLAGS) -> int:
    """Estimate in bytes: files, a context for each slot, the process itself; a smaller model only where it guesses."""
    unused = model.draft.size if model.draft and not flags.draft_model else 0
    return model.size - unused + cache_bytes(model, flags) * options.num_ctx * num_parallel + process_of(model)
