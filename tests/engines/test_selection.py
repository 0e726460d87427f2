"""Which engine a model runs on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serow.engines.check.checks import Checks, Speeds
from serow.engines.home import Build, EngineHome
from serow.engines.kinds import IK, LLAMA_CPP, Engine, Feature, FlagSet
from serow.engines.selection import WHEEL_CHOICE, Choice, Selection
from serow.errors import RequestError, StoreError
from serow.settings import Settings
from tests.engines.check.test_checks import FLASH, A, result
from tests.scheduler.machine import model

NOTHING: frozenset[Feature] = frozenset()
ONE_SLOT = FlagSet(True, 1)


class Place:
    """A directory of engines, and servers that choose from it."""

    def __init__(self, root: Path) -> None:
        self.settings = Settings(engines=root / "engines")
        self.home = EngineHome(self.settings.engines)
        self.checks = Checks(self.settings.engines)

    def build(self, name: str, build: str = "build 1") -> Engine:
        """Build an engine, or build it anew."""
        self.home.claim()
        executable = self.home.root / "made"
        executable.touch()
        self.home.install(name, executable, Build(sha256=build, source="", built_at=""))
        return self.home.find(name)

    def selection(self, **settings: Any) -> Selection:
        """A server's."""
        return Selection(replace(self.settings, **settings))

    def chosen(self, needs: frozenset[Feature] = NOTHING, **settings: Any) -> Choice:
        """What a new server runs the model `a` on."""
        return self.selection(**settings).choose(A, needs)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def ik(place: Place) -> Engine:
    return place.build("ik")


def test_without_engines_or_checks_a_model_runs_on_the_wheel(place: Place) -> None:
    assert place.chosen() == WHEEL_CHOICE
    place.build("ik")
    assert place.chosen() == WHEEL_CHOICE


def test_an_engine_that_has_passed_and_is_faster_is_chosen_at_once(place: Place, ik: Engine) -> None:
    selection = place.selection()
    assert selection.choose(A, NOTHING) == WHEEL_CHOICE
    place.checks.put([result()])
    assert selection.choose(A, NOTHING) == Choice(ik, FLASH)


@pytest.mark.parametrize(
    "fields",
    [
        {"speedup": 0.9},
        {"reason": "it died"},
        {"build": "older"},
        {"wheel_build": "older"},
        {"model": "b"},
        {"engine": "llama.cpp"},
    ],
)
def test_what_is_slower_has_failed_or_was_something_else_is_not_chosen(
    place: Place, ik: Engine, fields: dict[str, Any]
) -> None:
    place.checks.put([result(**fields)])
    assert place.chosen() == WHEEL_CHOICE


def test_a_new_build_has_to_be_checked_anew(place: Place, ik: Engine) -> None:
    place.checks.put([result()])
    place.build("ik", "build 2")
    assert place.chosen() == WHEEL_CHOICE


def test_the_fastest_of_all_engines_and_flags_is_chosen(place: Place, ik: Engine) -> None:
    other = place.build("llama.cpp")
    place.checks.put([result(speedup=1.5), result(ONE_SLOT, speedup=1.7), result(FlagSet(), engine="llama.cpp", speedup=1.6)])
    assert place.chosen() == Choice(ik, ONE_SLOT)
    place.checks.put([result(FlagSet(), engine="llama.cpp", speedup=1.8)])
    assert place.chosen() == Choice(other, FlagSet())


def test_each_speed_is_compared_with_the_wheel_of_the_same_minute(place: Place, ik: Engine) -> None:
    place.build("llama.cpp")
    idle_wheel = Speeds(prompt=200, decode=20, repeat=20, together=40)
    idle_engine = Speeds(prompt=240, decode=24, repeat=24, together=48)
    idle = result(FlagSet(), engine="llama.cpp", speeds=idle_engine, wheel=idle_wheel)
    busy = result(speedup=1.5)
    assert busy.speeds and busy.speeds.decode < idle_engine.decode
    place.checks.put([busy, idle])
    assert place.chosen().engine == ik


def test_flags_with_fewer_slots_than_are_set_are_not_chosen(place: Place, ik: Engine) -> None:
    place.checks.put([result(speedup=1.5), result(ONE_SLOT, speedup=1.7)])
    assert [place.chosen(num_parallel=number).flags for number in (0, 1, 2, 8)] == [ONE_SLOT, ONE_SLOT, FLASH, FLASH]
    assert place.chosen(num_parallel=9) == WHEEL_CHOICE


def test_an_engine_that_was_chosen_by_hand_is_the_only_one_and_may_be_slower(place: Place, ik: Engine) -> None:
    place.build("llama.cpp")
    place.checks.put([result(speedup=2), result(FlagSet(), engine="llama.cpp", speedup=0.9)])
    chosen = []
    for name in ("llama.cpp", "wheel", "ik", ""):
        place.home.use(name)
        chosen.append(place.chosen().engine.name)
    assert chosen == ["llama.cpp", "wheel", "ik", "ik"]


def test_an_engine_that_was_chosen_by_hand_runs_no_model_that_it_was_not_checked_with(place: Place, ik: Engine) -> None:
    place.home.use("ik")
    assert place.chosen() == WHEEL_CHOICE
    place.checks.put([result(reason="it died")])
    assert place.chosen() == WHEEL_CHOICE


def test_what_an_engine_lacks_runs_on_another_one(place: Place, ik: Engine) -> None:
    place.checks.put([result()])
    assert place.chosen(frozenset({Feature.LLGUIDANCE})) == WHEEL_CHOICE


@pytest.mark.parametrize("files", [{"projector": Path("eyes")}, {"adapters": (Path("lora"),)}])
def test_a_model_with_other_files_over_checked_weights_is_not_checked(place: Place, ik: Engine, files: dict[str, Any]) -> None:
    place.checks.put([result()])
    assert place.selection().choose(replace(A, **files), NOTHING) == WHEEL_CHOICE


def test_a_model_that_draws_runs_without_an_engine(place: Place, ik: Engine) -> None:
    assert place.selection(engine="ik").choose(model("a", capabilities=("image",)), NOTHING) == WHEEL_CHOICE


def test_an_engine_that_is_struck_off_is_not_chosen_any_more_by_anybody(place: Place, ik: Engine) -> None:
    place.checks.put([result()])
    selection = place.selection()
    assert selection.strike(Choice(ik, FLASH), A, "it ended with signal 9")
    assert selection.choose(A, NOTHING) == place.chosen() == WHEEL_CHOICE
    (kept,) = place.checks.all()
    assert (kept.reason, kept.flags, kept.build) == ("it ended with signal 9", FLASH, "build 1")


def test_only_the_flags_and_the_model_that_it_died_with_are_struck_off(place: Place, ik: Engine) -> None:
    place.checks.put([result(), result(ONE_SLOT, speedup=1.2), result(model="b")])
    selection = place.selection()
    selection.strike(Choice(ik, FLASH), A, "it ended with signal 9")
    assert selection.choose(A, NOTHING) == Choice(ik, ONE_SLOT)
    assert selection.choose(model("b"), NOTHING) == Choice(ik, FLASH)


def test_of_several_reasons_for_the_same_death_the_first_is_kept(place: Place, ik: Engine) -> None:
    place.checks.put([result()])
    selection = place.selection()
    assert selection.strike(Choice(ik, FLASH), A, "it ended with signal 9")
    assert selection.strike(Choice(ik, FLASH), A, "it ended by itself")
    assert [check.reason for check in place.checks.all()] == ["it ended with signal 9"]


def test_a_strike_that_can_not_be_written_holds_in_memory(
    place: Place, ik: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place.checks.put([result()])
    selection = place.selection()

    def full(*_: object) -> None:
        raise StoreError("no space left on the disk of the engines")

    monkeypatch.setattr(Checks, "put", full)
    assert selection.strike(Choice(ik, FLASH), A, "it ended with signal 9")
    assert selection.choose(A, NOTHING) == WHEEL_CHOICE
    assert place.chosen() == Choice(ik, FLASH)
    assert caplog.messages == [
        "the engine ik is struck off for a:latest: it ended with signal 9",
        "no space left on the disk of the engines",
    ]


def test_a_check_that_passes_again_lifts_a_strike(place: Place, ik: Engine) -> None:
    place.checks.put([result(checked_at="before")])
    selection = place.selection()
    selection.strike(Choice(ik, FLASH), A, "it ended with signal 9")
    place.checks.put([result(checked_at="afterwards")])
    assert selection.choose(A, NOTHING) == Choice(ik, FLASH)


def test_the_death_of_an_old_build_does_not_strike_off_the_new_one(place: Place, ik: Engine) -> None:
    place.checks.put([result()])
    selection = place.selection()
    running = selection.choose(A, NOTHING)
    place.build("ik", "build 2")
    place.checks.put([result(build="build 2")])
    assert selection.strike(running, A, "it ended with signal 9")
    assert selection.choose(A, NOTHING).engine.build == "build 2"


@pytest.mark.req("DEV-09")
@pytest.mark.parametrize("engine", ["", "ik"])
@pytest.mark.parametrize(("speedup", "is_chosen"), [(2.0, False), (2.08, False), (2.2, True)])
def test_a_packed_cache_is_chosen_where_it_is_worth_its_rounding(
    place: Place, ik: Engine, engine: str, speedup: float, is_chosen: bool
) -> None:
    packed = FlagSet(True, cache_type="q8_0")
    place.checks.put([result(), result(packed, speedup=speedup)])
    assert place.chosen(engine=engine) == Choice(ik, packed if is_chosen else FLASH)


@pytest.mark.parametrize("engine", ["", "ik"])
@pytest.mark.parametrize("guessing", [FlagSet(True, drafts=True), FlagSet(True, draft_model=True)])
def test_an_engine_that_guesses_is_chosen_unless_the_user_says_no(
    place: Place, ik: Engine, engine: str, guessing: FlagSet
) -> None:
    place.checks.put([result(guessing, speedup=3.0), result()])
    assert place.chosen(engine=engine) == Choice(ik, guessing)
    assert place.chosen(engine=engine, drafts=False) == Choice(ik, FLASH)


PACKED = FlagSet(True, cache_type="q8_0")


def test_a_cache_that_is_set_is_the_wheels_too(place: Place) -> None:
    assert place.chosen(kv_cache_type="q8_0") == Choice(flags=PACKED)
    assert place.chosen(flash_attention=False) == Choice(flags=FlagSet(False))
    assert place.chosen(frozenset({Feature.EMBEDDINGS}), kv_cache_type="q8_0") == WHEEL_CHOICE  # which keeps nothing


def test_only_what_was_checked_beside_a_wheel_with_the_cache_that_is_set_is_chosen(place: Place, ik: Engine) -> None:
    place.checks.put([result(FLASH), result(PACKED, speedup=3.0)])
    assert place.chosen(kv_cache_type="q8_0") == Choice(flags=PACKED)
    place.checks.put([result(PACKED, wheel_flags=PACKED)])
    assert place.chosen(kv_cache_type="q8_0") == Choice(ik, PACKED)
    assert place.chosen().flags == PACKED  # chosen by itself, as before


def test_an_engine_that_died_with_a_cache_that_is_set_is_struck_off_for_that(place: Place, ik: Engine) -> None:
    place.checks.put([result(FLASH), result(PACKED, wheel_flags=PACKED)])
    selection = place.selection(kv_cache_type="q8_0")
    assert selection.strike(Choice(ik, PACKED), A, "it ended with signal 9")
    assert place.chosen(kv_cache_type="q8_0") == Choice(flags=PACKED)
    assert place.chosen() == Choice(ik, FLASH)


def test_a_forced_engine_has_the_cache_that_is_set(place: Place, ik: Engine) -> None:
    assert place.chosen(engine="ik", num_parallel=4, kv_cache_type="q4_0") == Choice(ik, FlagSet(True, cache_type="q4_0"))


def test_the_wheel_and_an_engine_that_is_forced_are_never_struck_off(place: Place, ik: Engine) -> None:
    assert not place.selection().strike(WHEEL_CHOICE, A, "it ended with signal 9")
    assert not place.selection(engine="ik").strike(Choice(ik, FLASH), A, "it ended with signal 9")
    assert place.checks.all() == ()


def test_a_forced_engine_needs_no_check_and_gets_flags_that_it_bears(place: Place, ik: Engine) -> None:
    assert place.chosen(engine="ik") == Choice(ik, ONE_SLOT)
    assert place.chosen(engine="ik", num_parallel=4) == Choice(ik, FlagSet(False))
    assert place.chosen(engine="wheel") == WHEEL_CHOICE


def test_a_llama_server_of_ones_own_decides_about_flash_attention_by_itself(place: Place, tmp_path: Path) -> None:
    executable = tmp_path / "llama-server"
    executable.touch(0o700)
    assert place.chosen(llama_server=executable).flags == FlagSet()
    assert place.chosen(llama_server=executable, flash_attention=False).flags == FlagSet(False)


def test_a_forced_engine_gets_the_flags_of_its_fastest_check(place: Place, ik: Engine) -> None:
    place.checks.put([result(FLASH, speedup=0.9), result(ONE_SLOT, speedup=0.8)])
    assert place.chosen(engine="ik") == Choice(ik, FLASH)


def test_a_forced_executable_is_used_for_every_model(place: Place, tmp_path: Path) -> None:
    executable = tmp_path / "llama-server"
    executable.touch(0o700)
    assert place.chosen(llama_server=executable).engine == Engine(LLAMA_CPP, executable=executable)
    assert place.chosen(llama_server=executable, engine="ik").engine == Engine(IK, executable=executable)


def test_what_a_forced_engine_lacks_is_refused_in_words(place: Place, ik: Engine) -> None:
    with pytest.raises(RequestError, match=r"^the engine ik can't see pictures$") as caught:
        place.chosen(frozenset({Feature.VISION}), engine="ik")
    assert "SEROW_ENGINE" in caught.value.hint
