from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serow.engines.base import LoadRequest
from serow.engines.kinds import IK, WHEEL, Engine, Feature, FlagSet
from serow.engines.llamacpp.spec import prompt_cache_size
from serow.engines.selection import WHEEL_CHOICE, Choice
from serow.options import LoadOptions
from serow.scheduler.footprint import Footprint
from serow.scheduler.plan import Decision, Load, Machine, Refuse, Use, Wait, fits, memory_needed, plan, resolve
from serow.scheduler.resident import Demand, Resident, State
from serow.settings import Settings
from serow.store.model import Model
from tests.scheduler.machine import GIB, MIB, model

UNSET, DEFAULT = LoadOptions(), LoadOptions(num_ctx=4096)


def resident(
    name: str,
    *,
    running: int = 0,
    used: float = 0.0,
    leaving: bool = False,
    state: State = State.READY,
    options: LoadOptions = DEFAULT,
    engine: Engine = WHEEL,
) -> Resident:
    """A model of a GiB in memory, with four places."""
    return Resident(
        LoadRequest(model(name), options, 4, engine),
        memory=Footprint(GIB),
        uncounted=Footprint(GIB if state is State.LOADING else 0),
        num_running=running,
        last_used=used,
        is_leaving=leaving,
        state=state,
    )


def decide(
    *residents: Resident,
    free: int = 64 * GIB,
    wanted: Model | None = None,
    options: LoadOptions = UNSET,
    needs: frozenset[Feature] = frozenset(),
    choice: Choice = WHEEL_CHOICE,
    **settings: int,
) -> Decision:
    settled = Settings(**settings)  # type: ignore[arg-type]
    return plan(Demand(wanted or model("a"), options, needs), residents, Machine(lambda: free), settled, lambda: choice)


def leavers(*residents: Resident, free: int = 64 * GIB, max_loaded_models: int = 0) -> list[str]:
    """Names of those that the model `a` is loaded after."""
    decision = decide(*residents, free=free, max_loaded_models=max_loaded_models)
    assert isinstance(decision, Load)
    return [resident.request.model.name.model for resident in decision.after]


@pytest.mark.req("LIFE-02")
@pytest.mark.parametrize("state", [State.READY, State.LOADING])
def test_a_free_place_is_used_also_while_the_model_loads(state: State) -> None:
    here = resident("a", running=3, state=state)
    assert decide(here) == Use(here)


@pytest.mark.req("LIFE-02")
def test_a_full_model_makes_wait() -> None:
    assert decide(resident("a", running=4)) == Wait()


def test_names_of_the_same_weights_share_what_is_loaded() -> None:
    here = resident("a")
    assert decide(here, wanted=model("b", weights="a")) == Use(here)


@pytest.mark.parametrize("files", [{"projector": Path("mmproj")}, {"adapters": (Path("lora"),)}])
def test_other_files_over_the_same_weights_make_it_another_model(files: dict[str, Any]) -> None:
    assert isinstance(decide(resident("a"), wanted=replace(model("a"), **files)), Load)


@pytest.mark.req("LIFE-03")
@pytest.mark.parametrize(
    "options",
    [LoadOptions(), LoadOptions(num_ctx=2048), LoadOptions(num_ctx=4096), LoadOptions(num_gpu=-1), LoadOptions(use_mmap=None)],
)
def test_a_smaller_or_unset_option_uses_what_is_loaded(options: LoadOptions) -> None:
    assert fits(model("a"), LoadOptions(num_ctx=4096, num_gpu=7, use_mmap=False, num_thread=2), options)


@pytest.mark.req("LIFE-03")
@pytest.mark.parametrize(
    "options",
    [
        LoadOptions(num_ctx=4097),
        LoadOptions(num_gpu=1),
        LoadOptions(num_batch=64),
        LoadOptions(use_mmap=False),
        LoadOptions(main_gpu=1),
        LoadOptions(num_thread=1),
    ],
)
def test_another_load_option_loads_anew_after_what_is_loaded(options: LoadOptions) -> None:
    here = resident("a", running=1)
    decision = decide(here, options=options)
    assert isinstance(decision, Load)
    assert decision.after == (here,)


@pytest.mark.req("LIFE-03")
@pytest.mark.parametrize("leaving", [False, True])
def test_a_model_that_is_loading_with_other_options_is_waited_for(leaving: bool) -> None:
    loading = resident("a", state=State.LOADING, leaving=leaving)
    assert decide(loading, options=LoadOptions(num_thread=1)) == Wait()


@pytest.mark.req("LIFE-03")
@pytest.mark.parametrize(
    ("asked", "trained", "num_ctx"),
    [
        (0, 8192, 4096),
        (0, 2048, 2048),
        (100, 8192, 256),
        (257, 8192, 512),
        (9000, 8192, 8192),
        (8192, 8000, 8000),
        (9000, 0, 9216),
    ],
)
def test_num_ctx_is_whole_blocks_within_the_trained_length(asked: int, trained: int, num_ctx: int) -> None:
    wanted = replace(model("a"), context_length=trained)
    assert resolve(wanted, LoadOptions(num_ctx=asked), Settings()).num_ctx == num_ctx


@pytest.mark.req("LIFE-03")
def test_a_context_beyond_the_trained_length_is_no_reason_to_reload() -> None:
    here = resident("a", options=LoadOptions(num_ctx=8192))
    assert decide(here, options=LoadOptions(num_ctx=100_000)) == Use(here)


@pytest.mark.req("LIFE-02")
@pytest.mark.parametrize(("free", "parallel"), [(64 * GIB, 8), (2 * GIB, 3), (1200 * MIB, 1)])
def test_the_automatic_number_of_places_follows_the_free_memory(free: int, parallel: int) -> None:
    decision = decide(free=free)
    assert isinstance(decision, Load)
    assert decision.num_parallel == parallel


def test_a_set_number_of_places_is_kept() -> None:
    decision = decide(num_parallel=3)
    assert isinstance(decision, Load)
    assert decision.num_parallel == 3


@pytest.mark.req("GEN-18")
def test_an_image_model_draws_one_picture_at_a_time() -> None:
    decision = decide(wanted=model("a", capabilities=("image",)), num_parallel=4)
    assert isinstance(decision, Load)
    assert decision.num_parallel == 1


@pytest.mark.parametrize(("most", "free", "parallel"), [(1, 64 * GIB, 1), (8, 64 * GIB, 8), (8, 2 * GIB, 3)])
def test_there_are_no_more_places_than_the_engine_was_checked_with(most: int, free: int, parallel: int) -> None:
    choice = Choice(Engine(IK), FlagSet(True, most))
    decision = decide(free=free, choice=choice)
    assert isinstance(decision, Load)
    assert (decision.num_parallel, decision.choice) == (parallel, choice)


@pytest.mark.parametrize("state", [State.READY, State.LOADING])
def test_an_engine_that_lacks_what_is_needed_counts_like_another_model(state: State) -> None:
    here = resident("a", engine=Engine(IK), state=state)
    needs = frozenset({Feature.LLGUIDANCE})
    assert decide(here) == Use(here)
    decision = decide(here, needs=needs)
    assert isinstance(decision, Load)
    assert (decision.after, decision.choice) == ((), WHEEL_CHOICE)
    wheel = resident("a")
    assert decide(here, wheel, needs=needs) == Use(wheel)


@pytest.mark.req("LIFE-04")
def test_nobody_leaves_while_the_memory_suffices() -> None:
    assert leavers(resident("b"), resident("c"), free=2 * GIB) == []


@pytest.mark.req("LIFE-04")
def test_idle_models_leave_least_recently_used_first_and_no_more_than_needed() -> None:
    others = resident("b", used=3), resident("c", used=1), resident("d", used=2)
    assert leavers(*others, free=GIB) == ["c"]
    assert leavers(*others, free=0) == ["c", "d"]


@pytest.mark.req("LIFE-04")
def test_busy_models_leave_after_the_idle_ones() -> None:
    assert leavers(resident("b", running=1, used=1), resident("c", used=2), free=0) == ["c", "b"]


def test_what_is_leaving_already_is_waited_for_before_others_are_sent_away() -> None:
    assert leavers(resident("b"), resident("c", running=1, leaving=True), free=GIB) == ["c"]


def test_memory_that_a_loading_model_has_yet_to_take_is_not_free() -> None:
    loading = resident("b", state=State.LOADING)
    assert decide(loading, free=2 * GIB) == Wait()
    assert leavers(loading, resident("c"), free=2 * GIB) == ["c"]


def test_mapped_weights_that_the_system_counts_as_free_are_not_free() -> None:
    mapped = resident("b")
    mapped.uncounted = Footprint(GIB)
    assert leavers(mapped, free=2 * GIB) == ["b"]


def test_at_most_max_loaded_models_are_in_memory() -> None:
    others = resident("b", used=2), resident("c", used=1)
    assert leavers(*others, max_loaded_models=2) == ["c"]
    assert decide(resident("b", state=State.LOADING), max_loaded_models=1) == Wait()


@pytest.mark.req("LIFE-04")
def test_a_model_that_no_leaving_makes_room_for_is_refused_and_nobody_leaves() -> None:
    decision = decide(resident("b"), free=GIB, wanted=model("a", size=8 * GIB))
    assert decision == Refuse(needed=8 * GIB + 128 * MIB, available=2 * GIB)


def test_a_model_that_completes_texts_is_loaded_a_second_time_to_embed_them() -> None:
    loaded = resident("a")
    demand = Demand(loaded.request.model, LoadOptions(), frozenset({Feature.EMBEDDINGS}))
    decision = plan(demand, [loaded], Machine(lambda: 64 * GIB), Settings())
    assert isinstance(decision, Load)
    assert loaded not in decision.after


def test_prompts_that_left_their_slot_get_a_modest_share_of_what_is_left_and_it_is_planned() -> None:
    plenty, little, none = (decide(free=free) for free in (64 * GIB, 3 * GIB, GIB + (130 << 20)))
    assert isinstance(plenty, Load) and isinstance(little, Load) and isinstance(none, Load)
    assert plenty.prompt_cache == prompt_cache_size() >> 20 << 20
    assert 0 <= none.prompt_cache < little.prompt_cache < plenty.prompt_cache
    for decision, free in ((plenty, 64 * GIB), (little, 3 * GIB), (none, GIB + (130 << 20))):
        without = memory_needed(model("a"), decision.options, decision.num_parallel)
        assert decision.memory == without + decision.prompt_cache <= free


def test_a_pipeline_keeps_no_prompts() -> None:
    decision = decide(wanted=model("a", capabilities=("image",)))
    assert isinstance(decision, Load) and decision.prompt_cache == 0


@pytest.mark.req("DEV-06")
def test_options_for_devices_are_told_to_be_ignored_where_the_engine_has_none() -> None:
    decision = decide(options=LoadOptions(num_gpu=10, main_gpu=2))
    assert isinstance(decision, Load)
    assert decision.warnings == (
        'option "num_gpu" was ignored: the engine wheel has no device to use here',
        'option "main_gpu" was ignored: the engine wheel has no device to use here',
    )
    for unasked in (UNSET, LoadOptions(num_gpu=0, main_gpu=0)):
        assert isinstance(plain := decide(options=unasked), Load) and not plain.warnings


def test_what_is_said_of_a_choice_is_said_with_the_load() -> None:
    decision = decide(choice=replace(WHEEL_CHOICE, warnings=("its cache is another one",)), options=LoadOptions(num_gpu=1))
    assert isinstance(decision, Load)
    assert decision.warnings[0] == "its cache is another one" and len(decision.warnings) == 2
