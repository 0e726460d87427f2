"""Where a request runs: pure decisions from what is in memory, what is free and what is asked for.

They are asked again for every waiting request at every event, so they change nothing and must not log.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from serow.engines.llamacpp.spec import prompt_cache_size, whole_blocks
from serow.engines.selection import WHEEL_CHOICE, Choice
from serow.options import LoadOptions
from serow.scheduler.resident import Demand, Resident, State
from serow.settings import Settings
from serow.store.model import Model

REMOTE_PARALLEL = 256  # requests at a time that one engine at an address gets, which has a queue of its own
_SHARE = 4  # the automatic choice gives one part in so many of the free memory to contexts
_CACHE_SHARE = 8  # and one in so many of what is left then to prompts that left their slot
_PROCESS = 64 << 20  # bytes of an engine beside weights and contexts; measured: 27 MiB to 148 MiB
_PIPELINE_PROCESS = 384 << 20  # of one that draws: torch and diffusers; measured: 324 MiB


@dataclass(frozen=True)
class Use:
    """There is a place in it, also while it loads."""

    resident: Resident


@dataclass(frozen=True)
class Load:
    """Load the model once all of `after` are gone; those that are not leaving yet are to retire."""

    options: LoadOptions
    num_parallel: int
    memory: int  # bytes
    after: tuple[Resident, ...] = ()
    choice: Choice = WHEEL_CHOICE
    prompt_cache: int = 0  # bytes of `memory` for prompts that left their slot


@dataclass(frozen=True)
class Wait:
    """Ask again at the next event."""


@dataclass(frozen=True)
class Refuse:
    """The memory does not suffice, whoever leaves. Both in bytes."""

    needed: int
    available: int


Decision = Use | Load | Wait | Refuse


def plan(
    demand: Demand,
    residents: Sequence[Resident],
    free_memory: Callable[[], int],
    settings: Settings,
    choose: Callable[[], Choice] = Choice,
) -> Decision:
    """Decide on the longest waiting request of a model; `free_memory` and `choose` are asked only when it has to be loaded.

    `choose` names the engine to load it in. One that has it in memory already will do as well, if it can do what the request
    needs; the same model in an engine that can't counts like any other model.

    1. It is in memory with options that fit: Use a free place, or Wait for one; who wants to be alone waits for all of them.
    2. It is loading with other options: Wait, so that no chain of loads can grow.
       An engine at an address takes nothing here: Load (REM-06).
    3. Not all memory together would suffice: Refuse.
    4. Otherwise Load, after as few as make room, in this order:
       a. the same weights with other options, which have to be gone in any case
       b. those that are leaving already
       c. idle ones, the least recently used first
       d. busy ones, the least recently used first, after their requests in flight
    5. What is in the way is still loading: Wait.
    """
    own = [each for each in residents if each.key == demand.key and each.request.engine.can(demand.needs)]
    for resident in own:
        if not resident.is_leaving and fits(demand.model, resident.request.options, demand.options):
            return Use(resident) if resident.has_place(alone=demand.alone) else Wait()  # 1
    if any(resident.state is State.LOADING for resident in own):
        return Wait()  # 2
    options = resolve(demand.model, demand.options, settings)
    if demand.model.is_remote:
        return Load(options, settings.num_parallel or REMOTE_PARALLEL, 0, choice=choose())
    return _load(demand.model, options, choose(), own, residents, free_memory(), settings)


def _load(
    model: Model,
    options: LoadOptions,
    choice: Choice,
    own: list[Resident],
    residents: Sequence[Resident],
    free: int,
    settings: Settings,
) -> Decision:
    needed = memory_needed(model, options, least_parallel(model, settings))
    available = room(free, residents, residents)
    if needed > available:
        return Refuse(needed, max(available, 0))  # 3
    after, leavers = own, by_leave(resident for resident in residents if resident not in own)
    while needed > room(free, residents, after) or _is_crowded(residents, after, settings):
        if not leavers:
            return Wait()  # 5
        after.append(leavers.pop(0))
    left = room(free, residents, after)
    num_parallel = choose_parallel(model, options, choice, left, settings)
    memory = memory_needed(model, options, num_parallel)
    cache = choose_prompt_cache(model, left - memory)
    return Load(options, num_parallel, memory + cache, tuple(after), choice, cache)  # 4


def by_leave(residents: Iterable[Resident]) -> list[Resident]:
    """Those that can be made to leave, in the order in which they go; not those that have yet to serve anybody."""
    here = [resident for resident in residents if not resident.is_remote]
    can_leave = [resident for resident in here if resident.is_leaving or resident.state is State.READY]
    return sorted(can_leave, key=lambda resident: (not resident.is_leaving, resident.num_running > 0, resident.last_used))


def room(free: int, residents: Iterable[Resident], gone: Iterable[Resident]) -> int:
    """Bytes for a new model once `gone` are gone: what others have yet to take is not free."""
    return free - sum(resident.uncounted for resident in residents) + sum(resident.memory for resident in gone)


def _is_crowded(residents: Sequence[Resident], gone: Sequence[Resident], settings: Settings) -> bool:
    num_here = sum(not resident.is_remote for resident in residents)
    return 0 < settings.max_loaded_models <= num_here - len(gone)


def fits(model: Model, loaded: LoadOptions, wanted: LoadOptions) -> bool:
    """Whether the model loaded with `loaded` serves `wanted` without a reload (LIFE-03).

    What a request leaves unset (num_ctx 0, num_gpu -1, use_mmap None, num_thread 0) is no wish for something else.
    """
    return model.is_remote or (
        _bounded(model, wanted.num_ctx) <= loaded.num_ctx
        and wanted.num_gpu in (-1, loaded.num_gpu)
        and wanted.use_mmap in (None, loaded.use_mmap)
        and wanted.num_thread in (0, loaded.num_thread)
        and wanted.num_batch == loaded.num_batch
        and wanted.main_gpu == loaded.main_gpu
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
    slot = max(model.kv_bytes * options.num_ctx, 1)
    spare = available - memory_needed(model, options, 0)
    return max(1, min(choice.flags.num_parallel, spare // _SHARE // slot))


def choose_prompt_cache(model: Model, spare: int) -> int:
    """Bytes for prompts that left their slot: a modest share of the memory that would be left, in whole MiB."""
    share = 0 if model.is_image else min(prompt_cache_size(), max(0, spare) // _CACHE_SHARE)
    return share >> 20 << 20


def memory_needed(model: Model, options: LoadOptions, num_parallel: int) -> int:
    """Estimate in bytes: files, a context for each slot, the process itself."""
    process = _PIPELINE_PROCESS if model.is_image else _PROCESS
    return model.size + model.kv_bytes * options.num_ctx * num_parallel + process
