"""The memory of a smaller model that guesses: counted where it guesses, on the device or in main memory, and nowhere else."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from serow.devices.device import Kind
from serow.engines.kinds import FlagSet
from serow.engines.selection import Choice
from serow.options import LoadOptions
from serow.scheduler.fitting import Room
from serow.scheduler.need import cache_bytes, estimate
from serow.scheduler.plan import Load, Machine, memory_needed, plan
from serow.scheduler.resident import Demand
from serow.settings import CacheType, Settings
from serow.store.guesser import Guesser
from serow.store.layers import Layers
from serow.store.model import Model
from tests.scheduler.machine import GIB, MIB, model

GUESSING = FlagSet(draft_model=True)
OPTIONS = LoadOptions(num_ctx=4096)
CUDA: Kind = "cuda"


def guessed_for(size: int = 4 * GIB) -> Model:
    """A model of eight layers, and a smaller one of two: 400 MiB, 16 MiB of context for 4096 tokens."""
    layers = Layers((size // 8,) * 7, size // 8, 0, (2 << 10,) * 7, (0,) * 7, 0)
    small = Layers((100 * MIB,), 200 * MIB, 100 * MIB, (4 << 10,), (0,), 0)
    draft = Guesser(Path("small"), 400 * MIB, 4 << 10, layers=small)
    return replace(model("m", size + draft.size), layers=layers, draft=draft)


@pytest.mark.req("DEV-02")
@pytest.mark.parametrize("num_parallel", [1, 8])
def test_a_guesser_is_counted_on_the_first_device_with_a_context_for_each_slot(num_parallel: int) -> None:
    plain, guessing = (estimate(guessed_for(), OPTIONS, num_parallel, 0, flags) for flags in (FlagSet(), GUESSING))
    buffer = 512 * 2 * 4096  # to work in
    assert (plain.first, plain.first_cache) == (0, 0)
    assert guessing.first == 300 * MIB + buffer
    assert guessing.first_cache == num_parallel * 16 * MIB
    assert guessing.host - plain.host == 100 * MIB


@pytest.mark.req("DEV-02")
@pytest.mark.parametrize(("flags", "more"), [(FlagSet(), 0), (GUESSING, 400 * MIB + 2 * 16 * MIB)])
def test_main_memory_is_planned_for_a_guesser_only_where_it_guesses(flags: FlagSet, more: int) -> None:
    without = memory_needed(replace(guessed_for(), draft=None, size=4 * GIB), OPTIONS, 2)
    assert memory_needed(guessed_for(), OPTIONS, 2, flags) - without == more


@pytest.mark.req("DEV-02", "DEV-09")
@pytest.mark.parametrize(("cache_type", "part"), [("q8_0", 17), ("q4_0", 9)])
def test_keys_and_values_of_eight_or_four_bits_take_little_more_than_a_half_or_a_quarter(
    cache_type: CacheType, part: int
) -> None:
    packed = FlagSet(True, cache_type=cache_type)
    assert cache_bytes(guessed_for(), packed) == (16 << 10) * part // 32
    whole, less = (estimate(guessed_for(), OPTIONS, 4, 0, flags) for flags in (FlagSet(True), packed))
    assert sum(less.cache) * 32 == sum(whole.cache) * part


def _same(rooms: list[Room], model: Model, choice: Choice) -> list[Room]:
    """Whichever model it is."""
    return rooms


@pytest.mark.req("DEV-03")
def test_a_card_that_holds_the_model_and_not_its_guesser_holds_fewer_layers() -> None:
    free = 4 * GIB + 300 * MIB
    for flags, layers in ((FlagSet(), 8), (GUESSING, 7)):
        rooms = [Room("a", "CUDA0", CUDA, free)]
        here = Machine(lambda: 64 * GIB, partial(_same, rooms))
        found = plan(Demand(guessed_for(), OPTIONS), [], here, Settings(num_parallel=1), partial(Choice, flags=flags))
        assert isinstance(found, Load)
        assert [use.layers for use in found.uses] == [layers]
