"""Which devices hold which layers (DEV-03): by cases, by what must hold for any machine, and by the clock."""

from dataclasses import replace
from time import thread_time

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serow.devices.device import Kind
from serow.engines.base import LoadRequest
from serow.options import LoadOptions
from serow.scheduler.fitting import Room, Spare, on_one, on_several
from serow.scheduler.footprint import Footprint
from serow.scheduler.need import Need
from serow.scheduler.placement import Placement, Wish, place
from serow.scheduler.resident import Resident, State
from tests.scheduler.machine import model

TEN = Need(weights=(10,) * 10, cache=(0,) * 10, compute=5)  # layers of 10, and 5 to work in: 105 on one device
ANY = Wish()


def room(name: str, free: int, kind: Kind = "cuda", context: int = 0) -> Room:
    return Room(name, name.upper(), kind, free, context=context)


def idle(name: str, **held: int) -> Resident:
    request = LoadRequest(model(name), LoadOptions(), 1)
    return Resident(request, Footprint(0, held), state=State.READY)


def with_free(each: Room, free: int) -> Room:
    return msgspec.structs.replace(each, free=free)


def layers(placement: Placement) -> dict[str, int]:
    return {use.id: use.layers for use in placement.uses}


@pytest.mark.req("DEV-03")
def test_one_device_holds_all_the_one_with_the_least_room_that_suffices() -> None:
    assert layers(place(TEN, [room("a", 500), room("b", 105), room("c", 104)], [], ANY)) == {"b": 10}


@pytest.mark.req("DEV-03")
def test_what_no_single_device_holds_is_split_by_free_memory_over_the_fewest() -> None:
    rooms = [room("a", 45), room("b", 85), room("c", 30)]
    assert layers(place(TEN, rooms, [], ANY)) == {"b": 7, "a": 3}


@pytest.mark.req("DEV-03")
def test_devices_of_two_backends_are_not_mixed() -> None:
    rooms = [room("a", 60), room("b", 60, "vulkan"), room("c", 55, "vulkan")]
    assert layers(place(TEN, rooms, [], ANY)) == {"b": 5, "c": 5}
    assert layers(place(TEN, rooms[:2], [], ANY)) == {"a": 5}  # as many as fit, on one


@pytest.mark.req("DEV-03")
def test_idle_models_leave_least_recently_used_first_if_that_gives_all_of_it_a_place() -> None:
    others = [idle("old", a=50), idle("newer", a=60), idle("newest", a=60)]
    placement = place(TEN, [room("a", 0)], others, ANY)
    assert layers(placement) == {"a": 10}
    assert placement.after == tuple(others[:2])


@pytest.mark.req("DEV-03")
def test_nobody_leaves_who_could_have_stayed() -> None:
    small, large = idle("small", a=10), idle("large", a=110)
    assert place(TEN, [room("a", 0)], [small, large], ANY).after == (large,)
    elsewhere = idle("elsewhere", b=500)
    assert place(TEN, [room("a", 0), room("b", 0)], [idle("x", a=60), idle("y", a=60), elsewhere], ANY).after == (elsewhere,)


@pytest.mark.req("DEV-03")
def test_nobody_leaves_where_that_would_not_help() -> None:
    placement = place(TEN, [room("a", 25)], [idle("b", a=10)], ANY)
    assert (layers(placement), placement.after) == ({"a": 2}, ())


@pytest.mark.req("DEV-03")
def test_as_many_layers_as_fit_go_to_devices_and_else_it_is_the_cpu() -> None:
    assert layers(place(TEN, [room("a", 64), room("b", 26)], [], ANY)) == {"a": 5, "b": 2}
    assert place(TEN, [room("a", 14)], [], ANY) == place(TEN, [], [], ANY) == Placement()


@pytest.mark.req("DEV-03")
@pytest.mark.parametrize(("num_gpu", "expected"), [(0, {}), (1, {"b": 1}), (4, {"b": 4}), (10**9, {"a": 10}), (-1, {"a": 10})])
def test_num_gpu_is_so_many_layers_exactly(num_gpu: int, expected: dict[str, int]) -> None:
    assert layers(place(TEN, [room("a", 200), room("b", 50)], [], Wish(num_gpu))) == expected


@pytest.mark.req("DEV-03")
def test_a_wish_to_spread_takes_all_devices_though_one_would_do() -> None:
    assert layers(place(TEN, [room("a", 500), room("b", 500)], [], Wish(spread=True))) == {"a": 5, "b": 5}
    assert layers(place(TEN, [room("a", 500)], [], Wish(spread=True))) == {"a": 10}


def test_the_projector_and_the_driver_s_own_memory_count() -> None:
    need = replace(TEN, first=20)
    assert layers(place(need, [room("a", 124)], [], ANY)) == {"a": 9}
    assert layers(place(need, [room("a", 125)], [], ANY)) == {"a": 10}
    assert layers(place(TEN, [room("a", 105, context=1)], [], ANY)) == {"a": 9}


def test_partly_placed_layers_are_the_last_ones() -> None:
    need = Need(weights=(1, 2, 4, 8), cache=(0, 0, 0, 0), compute=0)
    (use,) = place(need, [room("a", 13)], [], ANY).uses
    assert (use.layers, use.weights) == (2, 12)


KINDS: st.SearchStrategy[Kind] = st.sampled_from(["cuda", "vulkan"])
ROOMS = st.lists(st.tuples(st.integers(0, 400), KINDS), max_size=5).map(
    lambda found: [room(f"d{number}", free, kind) for number, (free, kind) in enumerate(found)]
)
NEEDS = st.builds(
    Need,
    weights=st.lists(st.integers(1, 60), min_size=1, max_size=12).map(tuple),
    cache=st.just(()),
    compute=st.integers(0, 20),
    first=st.integers(0, 20),
).map(lambda need: replace(need, cache=(0,) * need.count))
OTHERS = st.lists(
    st.dictionaries(st.sampled_from([f"d{number}" for number in range(5)]), st.integers(1, 300), max_size=2), max_size=6
)
WISHES = st.builds(Wish, st.sampled_from([-1, 0, 1, 3, 10**9]), st.booleans())


def gives_all(need: Need, rooms: list[Room], gone: list[Resident], number: int) -> bool:
    """Whether each layer has a place once these are gone, on one device."""
    needed = need.total(number) + need.compute + need.first
    return any(needed <= each.free + sum(other.memory.on(each.id) for other in gone) for each in rooms)


@pytest.mark.req("DEV-03")
@settings(deadline=None)
@given(NEEDS, ROOMS, OTHERS, WISHES)
def test_no_device_is_ever_over_committed(need: Need, rooms: list[Room], others: list[dict[str, int]], wish: Wish) -> None:
    residents = [idle(f"m{number}", **held) for number, held in enumerate(others)]
    placement = place(need, rooms, residents, wish)
    free = {each.id: each.free + sum(other.memory.on(each.id) for other in placement.after) for each in rooms}
    assert all(use.size <= free[use.id] and use.layers for use in placement.uses)
    assert len({use.id for use in placement.uses}) == len(placement.uses)
    wanted = need.count if wish.num_gpu < 0 else min(wish.num_gpu, need.count)
    assert placement.layers <= wanted
    kinds = {each.id: each.kind for each in rooms}
    assert len({kinds[use.id] for use in placement.uses}) <= 1
    assert (
        sum(use.weights for use in placement.uses)
        == sum(need.weights[need.count - placement.layers :]) + bool(placement.uses) * need.first
    )


@pytest.mark.req("DEV-03")
@settings(deadline=None)
@example(Need(weights=(1, 1), cache=(0, 0), compute=0), [room("a", 0), room("b", 2)], [{"a": 1}], Wish(spread=True))
@given(NEEDS, ROOMS, OTHERS, WISHES)
def test_as_few_leave_as_can_be(need: Need, rooms: list[Room], others: list[dict[str, int]], wish: Wish) -> None:
    residents = [idle(f"m{number}", **held) for number, held in enumerate(others)]
    placement = place(need, rooms, residents, wish)
    wanted = need.count if wish.num_gpu < 0 else min(wish.num_gpu, need.count)
    if placement.after:
        assert placement.layers == wanted  # nobody leaves for a part
        assert place(need, rooms, [], wish).layers < wanted
        for spared in placement.after:
            rest = [other for other in placement.after if other is not spared]
            used = [each for each in rooms if each.id in layers(placement)]
            freed = [with_free(each, each.free + sum(other.memory.on(each.id) for other in rest)) for each in used]
            assert place(need, freed, [], wish).layers < wanted or wish.spread
    elif not wish.spread:
        assert placement.layers == wanted or not gives_all(need, rooms, residents, wanted)


@given(NEEDS, ROOMS, st.integers(1, 12), st.booleans())
def test_what_may_not_fit_by_its_smallest_layer_does_not_fit(need: Need, rooms: list[Room], number: int, spread: bool) -> None:
    number = min(number, need.count)
    if not Spare(need, rooms, [each.free for each in rooms], number).may_hold():
        assert not on_one(need, rooms, number) and not on_several(need, rooms, number, spread=spread)


def test_a_decision_for_eight_devices_and_fifty_models_takes_less_than_a_millisecond() -> None:
    need = Need(weights=(200,) * 80, cache=(10,) * 80, compute=50)
    rooms = [room(f"d{number}", 100) for number in range(8)]
    residents = [idle(f"m{number}", **{f"d{number % 8}": 900}) for number in range(50)]
    cases = [
        (rooms, Wish()),  # all of them have to leave, and it is split
        ([with_free(each, 20_000) for each in rooms], Wish()),
        ([with_free(each, 2_500) for each in rooms], Wish()),
        (rooms, Wish(spread=True)),
        ([with_free(each, 1_000) for each in rooms], Wish()),  # most of them have to leave
    ]
    for free, wish in cases:
        times = []
        for _ in range(60):
            began = thread_time()
            place(replace(need), free, residents, wish)
            times.append(thread_time() - began)
        assert min(times) < 1e-3
