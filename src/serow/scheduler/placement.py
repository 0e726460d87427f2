"""Which devices hold a model: a pure decision from what each layer needs and what is free.

It is asked again at every event, so it changes nothing and must not log.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from msgspec.structs import replace

from serow.devices.use import Use
from serow.scheduler.fitting import Room, as_many, by_kind, may_hold, on_one, on_several
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
    held = Counter[str]()
    for resident in residents:
        held.update(resident.memory.devices)
    found: Placement | None = None
    for target in targets:
        if not may_hold(need, target, [room.free + held[room.id] for room in target], number):
            continue
        other = _cleared(need, target, residents, number, wish)
        if other and (found is None or len(other.after) < len(found.after)):
            found = other
    return found


def _cleared(need: Need, rooms: Sequence[Room], residents: Sequence[Resident], number: int, wish: Wish) -> Placement | None:
    """Let the first ones leave until the layers fit on these devices, then let those stay that need not have left."""
    names = [room.id for room in rooms]
    there = [resident for resident in residents if any(name in names for name in resident.memory.devices)]
    held = [[devices.get(name, 0) for name in names] for devices in (resident.memory.devices for resident in there)]
    cleared = list(accumulate(held, _added, initial=[room.free for room in rooms]))  # once so many of the first are gone

    def uses(free: Sequence[int]) -> tuple[Use, ...]:
        if not may_hold(need, rooms, free, number):
            return ()
        each = [replace(room, free=size) for room, size in zip(rooms, free, strict=True)]
        return _whole(need, each, number, spread=wish.spread)

    most = range(len(cleared))
    count = bisect_left(most, True, lo=1, key=lambda count: may_hold(need, rooms, cleared[count], number))  # which is quick
    if count in most and not uses(cleared[count]):
        count = bisect_left(most, True, lo=count + 1, key=lambda count: bool(uses(cleared[count])))
    if count not in most:
        return None
    free, gone, found = cleared[count], [*there[:count]], uses(cleared[count])
    for resident, own in zip(reversed(there[: count - 1]), reversed(held[: count - 1]), strict=True):
        less = [size - part for size, part in zip(free, own, strict=True)]
        if fewer := uses(less):
            free, found = less, fewer
            gone.remove(resident)
    return Placement(found, tuple(gone))


def _added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return [size + part for size, part in zip(one, other, strict=True)]
