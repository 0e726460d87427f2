"""Which layers of a model fit on which devices, as the room on them is: the arithmetic under `placement.place`."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, groupby

from msgspec import Struct
from msgspec.structs import replace

from serow.devices.device import Kind
from serow.devices.use import Use
from serow.scheduler.need import Need


class Room(Struct, frozen=True):
    """A device that the model's engine can use, and the bytes of it that may be planned with."""

    id: str
    handle: str
    kind: Kind
    free: int
    name: str = ""
    total: int = 0  # bytes of the device
    context: int = 0  # bytes that the driver takes for a process
    is_shared: bool = False  # it is main memory
    is_emulated: bool = False  # it is the CPU, and no faster


def on_one(need: Need, rooms: Sequence[Room], number: int) -> tuple[Use, ...]:
    """So many layers on one device, the one with the least room that suffices; nothing where none does."""
    needed = need.total(number) + need.compute + need.beside
    room = min((room for room in rooms if needed + room.context <= room.free), key=lambda room: room.free, default=None)
    return (_use(need, room, 0, number, number, is_first=True),) if room else ()


def on_several(need: Need, rooms: Sequence[Room], number: int, *, spread: bool) -> tuple[Use, ...]:
    """So many layers split by free memory over the fewest devices of one backend, or over the most; else nothing."""
    groups = [(same, list(accumulate(_room_for_layers(need, same)))) for same in by_kind(rooms)]
    total = need.total(number)
    counts = range(2, min(len(rooms), number) + 1)
    for count in reversed(counts) if spread else counts:
        for same, capacity in groups:
            if len(same) >= count and total <= capacity[count - 1] and (found := _split(need, same[:count], number)):
                return found
    return ()


class Spare:
    """What some devices have beside what each of them needs to work in, and whether so many layers may lie there.

    It is asked before anything is split: most ways are too little however that is done.
    """

    def __init__(self, need: Need, rooms: Sequence[Room], free: Sequence[int], number: int) -> None:
        self._spare = [size - room.context - need.compute for room, size in zip(rooms, free, strict=True)]
        self._least, self._needed = need.least(number), need.total(number) + need.beside
        self._size = sum(spare for spare in self._spare if spare > 0)
        self._count = sum(map(self._layers, self._spare)) - number

    def may_hold(self, taken: Sequence[tuple[int, int]] = ()) -> bool:
        """Whether they may if each device has the smallest of them, once so many bytes are taken in some places."""
        size, count = self._size, self._count
        for place, part in taken:
            before = self._spare[place]
            size -= max(0, before) - max(0, before - part)
            count -= self._layers(before) - self._layers(before - part)
        return count >= 0 and size >= self._needed

    def _layers(self, spare: int) -> int:
        """How many of the smallest."""
        return bisect_right(self._least, spare) - 1 if spare > 0 else 0


def as_many(need: Need, rooms: Sequence[Room], number: int) -> tuple[Use, ...]:
    """As many layers as fit, up to `number`, on the fewest devices of one backend that hold so many."""
    candidates = (_filled(need, same[:count], number) for same in by_kind(rooms) for count in range(1, len(same) + 1))
    return max(candidates, key=lambda uses: (sum(use.layers for use in uses), -len(uses)), default=())


def by_kind(rooms: Sequence[Room]) -> Iterator[list[Room]]:
    """Those of each backend, the one with the most room first."""
    for _, same in groupby(sorted(rooms, key=lambda room: room.kind), key=lambda room: room.kind):
        yield sorted(same, key=lambda room: -room.free)


def _room_for_layers(need: Need, rooms: Sequence[Room]) -> list[int]:
    """What each has beside the buffer to work in; the first holds the projector too."""
    return [room.free - room.context - need.compute - (need.beside if place == 0 else 0) for place, room in enumerate(rooms)]


def _split(need: Need, rooms: Sequence[Room], number: int) -> tuple[Use, ...]:
    """In proportion to the room on each, whole layers; nothing when one of them would hold none, or they don't all fit.

    They have room enough together.
    """
    capacities, ends = _room_for_layers(need, rooms), need.ends(number)
    if min(capacities) <= 0:
        return ()
    part = ends[-1] / sum(capacities)
    counts = _counts(ends, capacities, [capacity * part for capacity in capacities]) or _counts(ends, capacities, capacities)
    return _uses(need, rooms, counts, number) if counts and all(counts) else ()


def _counts(ends: Sequence[int], capacities: Sequence[int], targets: Sequence[float]) -> list[int]:
    """How many layers each takes when it is filled up to the nearest layer of its target; nothing when some are left.

    `ends` tells where each layer ends when one is laid behind the other, 0 first.
    """
    counts: list[int] = []
    at, aim = 0, 0.0
    for place, (capacity, target) in enumerate(zip(capacities, targets, strict=True)):
        aim += target
        end = bisect_right(ends, ends[at] + capacity) - 1
        if place < len(capacities) - 1:
            near = bisect_right(ends, aim) - 1
            near += near + 1 < len(ends) and ends[near] + ends[near + 1] <= 2 * aim
            end = max(at, min(end, near))
        counts.append(end - at)
        at = end
    return counts if at == len(ends) - 1 else []


def _filled(need: Need, rooms: Sequence[Room], number: int) -> tuple[Use, ...]:
    """The last layers of the model, as many as fit when one device after the other is filled from the end."""
    capacities = _room_for_layers(need, rooms)
    counts = [0] * len(rooms)
    sizes = need.layers(number)
    for place in reversed(range(len(rooms))):
        held = 0
        while sizes and held + sizes[-1] <= capacities[place]:
            held += sizes.pop()
            counts[place] += 1
    return _uses(need, rooms, counts, sum(counts)) if sum(counts) and all(counts) else ()


def _uses(need: Need, rooms: Sequence[Room], counts: Sequence[int], number: int) -> tuple[Use, ...]:
    at, uses = 0, []
    for place, (room, count) in enumerate(zip(rooms, counts, strict=True)):
        uses.append(_use(need, room, at, count, number, is_first=place == 0))
        at += count
    return tuple(uses)


def _use(need: Need, room: Room, at: int, count: int, number: int, *, is_first: bool) -> Use:
    """`count` layers from the one at `at` of the last `number`."""
    begin = need.count - number + at
    return Use(
        id=room.id,
        handle=room.handle,
        name=room.name,
        total=room.total,
        layers=count,
        weights=sum(need.weights[begin : begin + count]) + (need.first if is_first else 0),
        cache=sum(need.cache[begin : begin + count]) + (need.first_cache if is_first else 0),
        compute=need.compute,
    )


def freed(rooms: Sequence[Room], size_on: Mapping[str, int]) -> list[Room]:
    """The rooms with so many bytes more on each."""
    return [replace(room, free=room.free + size_on[room.id]) if room.id in size_on else room for room in rooms]


def to_plan_with(rooms: Sequence[Room], overhead: int, yet: Mapping[str, int]) -> list[Room]:
    """The rooms without the bytes that stay free on each, and those that others have yet to take."""
    return [replace(room, free=room.free - overhead - yet.get(room.id, 0)) for room in rooms]


def with_slots(need: Need, uses: Sequence[Use]) -> tuple[Use, ...]:
    """The same layers on the same devices, for another number of slots."""
    found: list[Use] = []
    at, number = 0, sum(use.layers for use in uses)
    for use in uses:
        room = Room(use.id, use.handle, "gpu", 0, use.name, use.total)
        found.append(_use(need, room, at, use.layers, number, is_first=not found))
        at += use.layers
    return tuple(found)
