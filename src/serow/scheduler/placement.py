"""Which devices hold a model: a pure decision from what each layer needs and what is free.

It is asked again at every event, so it changes nothing and must not log.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from msgspec.structs import replace

from serow.devices.use import Use
from serow.scheduler.fitting import Room, Spare, as_many, by_kind, on_one, on_several
from serow.scheduler.footprint import by_device
from serow.scheduler.need import Need
from serow.scheduler.resident import Resident


@dataclass(frozen=True)
class Wish:
    """What a request says about devices. `num_gpu` layers, -1 for as many as there are; `spread` over all devices."""

    num_gpu: int = -1
    spread: bool = False


@dataclass(frozen=True)
class Placement:
    """What goes where, once all of `after` are gone. Without uses the model runs on the CPU."""

    uses: tuple[Use, ...] = ()
    after: tuple[Resident, ...] = ()

    @property
    def layers(self) -> int:
        """How many layers devices hold."""
        return sum(use.layers for use in self.uses)


def place(need: Need, rooms: Sequence[Room], residents: Sequence[Resident], wish: Wish) -> Placement:
    """Decide which device holds which layers of a model. `residents` are those that may leave, the first to go first.

    The layers that are wanted are all, or the last `num_gpu`; with none of them, and without devices, it is the CPU. With
    `main_gpu` there is only that device.

    1. All on one device: the one with the least room that suffices. `spread` skips this.
    2. All on the fewest devices of one backend, split by their free memory; with `spread` on as many as there are
       with room: nobody leaves for a wider split.
    3. Idle models leave if that makes 1 or 2 true: on the device where the fewest have to, the least recently used first,
       and none that could have stayed.
    4. As many layers as fit, the rest on the CPU.
    5. The CPU.
    """
    number = need.count if wish.num_gpu < 0 else min(wish.num_gpu, need.count)
    if not number or not rooms:
        return Placement()  # 5
    if uses := _whole(need, rooms, number, spread=wish.spread):
        return Placement(uses)  # 1, 2
    if wish.spread and (fewer := Placement(as_many(need, rooms, number))).layers == number:
        return fewer  # 2
    if found := _after_others(need, rooms, residents, number, wish):
        return found  # 3
    return Placement(as_many(need, rooms, number))  # 4, 5


def _whole(need: Need, rooms: Sequence[Room], number: int, *, spread: bool) -> tuple[Use, ...]:
    if len(rooms) == 1:
        return on_one(need, rooms, number)
    return (() if spread else on_one(need, rooms, number)) or on_several(need, rooms, number, spread=spread)


def _after_others(
    need: Need, rooms: Sequence[Room], residents: Sequence[Resident], number: int, wish: Wish
) -> Placement | None:
    """The way that makes the fewest leave: each device alone, then all devices of each backend."""
    targets = [] if wish.spread and len(rooms) > 1 else [[room] for room in rooms]
    targets += [same for same in by_kind(rooms) if len(same) > 1]
    held = by_device(resident.memory for resident in residents)
    found: Placement | None = None
    for target in targets:
        if not Spare(need, target, [room.free + held.get(room.id, 0) for room in target], number).may_hold():
            continue
        other = _cleared(need, target, residents, number, wish)
        if other and (found is None or len(other.after) < len(found.after)):
            found = other
    return found


def _cleared(need: Need, rooms: Sequence[Room], residents: Sequence[Resident], number: int, wish: Wish) -> Placement | None:
    """Let the first ones leave until the layers fit on these devices, then let those stay that need not have left."""
    places = {room.id: place for place, room in enumerate(rooms)}
    all_held = (_held(resident, places) for resident in residents)
    there = [(resident, held) for resident, held in zip(residents, all_held, strict=True) if held]

    def free_after(count: int) -> tuple[int, ...]:
        """Once so many of the first are gone."""
        free = [room.free for room in rooms]
        for _, held in there[:count]:
            for place, size in held:
                free[place] += size
        return tuple(free)

    def may_hold(count: int) -> bool:  # which is quick
        return Spare(need, rooms, free_after(count), number).may_hold()

    @cache
    def uses(free: tuple[int, ...]) -> tuple[Use, ...]:
        each = [replace(room, free=size) for room, size in zip(rooms, free, strict=True)]
        return _whole(need, each, number, spread=wish.spread)

    most = range(len(there) + 1)
    count = bisect_left(most, True, lo=1, key=may_hold)
    if count in most and not uses(free_after(count)):
        count = bisect_left(most, True, lo=count + 1, key=lambda count: bool(uses(free_after(count))))
    if count not in most:
        return None
    free, gone = free_after(count), [resident for resident, _ in there[:count]]
    spare = Spare(need, rooms, free, number)
    for resident, held in reversed(there[: count - 1]):
        if not spare.may_hold(held):
            continue
        less = [*free]
        for place, size in held:
            less[place] -= size
        if uses(tuple(less)):
            free, spare = tuple(less), Spare(need, rooms, less, number)
            gone.remove(resident)
    return Placement(uses(free), tuple(gone))


def _held(resident: Resident, places: Mapping[str, int]) -> list[tuple[int, int]]:
    """On which of these places it holds how many bytes."""
    return [(places[name], size) for name, size in resident.memory.devices.items() if name in places]
