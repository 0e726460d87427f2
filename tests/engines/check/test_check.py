"""Checks of real engines: those that variables name, and the wheel behind a proxy that misbehaves."""

import asyncio
import re
import sys
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import astuple

from serow.engines.base import LoadRequest
from serow.engines.check import check as check_module
from serow.engines.check.baseline import NUM_TEXTS
from serow.engines.check.check import NUM_STEPS, _worth_a_try, check
from serow.engines.check.checks import Check, model_key
from serow.engines.kinds import IK, KINDS, LLAMA_CPP, WHEEL, Engine, FlagSet
from serow.errors import LoadError, RequestError
from serow.settings import Settings
from serow.store.guesser import Guesser
from serow.store.layers import Layers
from serow.store.model import Model
from tests.engines import fake_server
from tests.engines.check.test_checks import result as known
from tests.engines.llamacpp.engines import DEADLINE, EXECUTABLES, engine_of, load_request

ONE_SLOT, TWO_SLOTS, THREE_SLOTS = (FlagSet(num_parallel=number) for number in (1, 2, 3))
SETTINGS = Settings(num_thread=1)


def think(zoo: Path) -> Model:
    return load_request(zoo / "zoo-think.gguf").model


def make_executable(directory: Path) -> Path:
    """A llama-server that is the fake one."""
    path = directory / "llama-server"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {fake_server.__file__} "$@"\n')
    path.chmod(0o700)
    return path


def fake(directory: Path, *flag_sets: FlagSet) -> Engine:
    """An engine of these flags."""
    return Engine(replace(LLAMA_CPP, flag_sets=flag_sets or (TWO_SLOTS,)), "build 1", make_executable(directory), has_gpu=False)


async def results_of(engine: Engine, model: Model, settings: Settings = SETTINGS) -> list[Check]:
    async with aclosing(check(engine, model, settings, lambda *_: None)) as results:
        return [result async for result in results]


async def test_an_engine_that_does_as_the_wheel_does_passes_with_its_speeds(zoo: Path, tmp_path: Path) -> None:
    results = await results_of(fake(tmp_path, TWO_SLOTS, THREE_SLOTS), think(zoo))
    assert [(result.flags, result.reason, result.passed) for result in results] == [
        (TWO_SLOTS, "", True),
        (THREE_SLOTS, "", True),
    ]
    for result in results:
        assert result.speeds and result.wheel
        assert min(astuple(result.speeds)) > 0
        assert (result.engine, result.build, result.model) == ("llama.cpp", "build 1", "zoo-think.gguf")


FAULTS = [
    ("rope", "texts: the log-probabilities of token"),
    ("dies", "slots: the engine ended with status 3"),
    ("mixes", "slots: with 4 at once the log-probabilities of token"),
    ("keeps", "leaving clients: slots were not free again after their clients had left within 2.5 seconds"),
    ("hangs", "texts: the engine made no progress for 5 seconds"),
    ("stops", "long text: it does not go on beyond its context"),
    ("mute", "the model did not load within 2 seconds"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=[fault for fault, _ in FAULTS])
async def test_an_engine_that_misbehaves_fails_with_the_reason_in_words(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, reason: str
) -> None:
    monkeypatch.setenv("LLAMA_FAKE_FAULT", fault)
    if fault == "mute":
        monkeypatch.setattr(check_module, "_loaded", _impatient(check_module._loaded))
    impatient = replace(SETTINGS, stall_timeout=5.0)
    (result,) = await results_of(fake(tmp_path, FlagSet(num_parallel=4)), think(zoo), impatient)
    assert result.reason.startswith(reason)
    assert not result.passed


def _impatient(loaded: Callable[[LoadRequest, Settings], Any]) -> Callable[[LoadRequest, Settings], Any]:
    """`_loaded` with little time for an engine to load, and as much as ever for the wheel beside it."""

    def wrapped(request: LoadRequest, settings: Settings) -> Any:
        return loaded(request, settings if request.engine == WHEEL else replace(settings, load_timeout=2.0))

    return wrapped


DRAFTING = [
    ("", ""),
    ("guessless", "drafts: it guesses nothing right of a text that repeats itself"),
    ("silent", "drafts: it tells no log-probabilities of what it guesses"),
    ("overshoots", "drafts: what it guesses changes the text"),
]


@pytest.mark.parametrize(("fault", "reason"), DRAFTING)
async def test_an_engine_that_guesses_must_guess_right_and_leave_the_text_as_it_is(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, reason: str
) -> None:
    monkeypatch.setenv("LLAMA_FAKE_FAULT", fault)
    (result,) = await results_of(fake(tmp_path, FlagSet(drafts=True)), think(zoo))
    assert result.reason == reason


@pytest.mark.parametrize(("refusal", "expected"), [("", [FlagSet(draft_model=True), TWO_SLOTS]), ("other tokens", [TWO_SLOTS])])
def test_a_smaller_model_is_tried_where_its_tokens_are_the_models_own(zoo: Path, refusal: str, expected: list[FlagSet]) -> None:
    kind = replace(LLAMA_CPP, flag_sets=(TWO_SLOTS,), draft_flags=(FlagSet(draft_model=True),))
    request = load_request(zoo / "zoo-think.gguf", engine=Engine(kind), num_thread=1)
    drafting = replace(request.model, draft=Guesser(Path("small"), 1, refusal=refusal))
    tried, results = [], list[Check]()
    for flags in _worth_a_try(replace(request, model=drafting), results, SETTINGS):
        tried.append(flags)
        results.append(known(flags))
    assert tried == expected
    assert model_key(drafting) == f"{model_key(request.model)}+small"  # what was seen without it tells nothing of it


@pytest.mark.parametrize(("fault", "reason"), DRAFTING[:2])
async def test_a_smaller_model_has_to_guess_right_too(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, reason: str
) -> None:
    monkeypatch.setenv("LLAMA_FAKE_FAULT", fault)
    model = replace(think(zoo), draft=Guesser(zoo / "zoo-think.gguf", 1))
    engine = fake(tmp_path, FlagSet(num_parallel=2, draft_model=True))
    (result,) = await results_of(replace(engine, kind=replace(engine.kind, draft_flags=())), model)
    assert result.reason == reason


@pytest.mark.req("DEV-08")
@pytest.mark.parametrize(("fault", "reason"), [("", ""), ("splits", "with 2 of 5 layers on devices: the log-probabilities")])
async def test_an_engine_with_a_device_is_tried_with_some_layers_there_and_with_none(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, reason: str
) -> None:
    monkeypatch.setenv("LLAMA_FAKE_FAULT", fault)
    engine = replace(fake(tmp_path, ONE_SLOT), has_gpu=True)
    model = replace(think(zoo), layers=Layers((1,) * 4, 1, 1, (1,) * 4, (0,) * 4))
    (result,) = await results_of(engine, model)
    assert result.reason.startswith(reason) and result.passed is not bool(reason)


@pytest.mark.parametrize(
    ("speedups", "wished", "tried"),
    [
        ([2.0, 1.5, 1.9], 0, [4]),
        ([2.0, 1.5, 2.1, 2.0], 0, [4, 2]),
        ([2.0, 1.5, 2.1, 2.2], 0, [4, 2]),  # one thread has never all the bandwidth
        ([0.0, 0.0], 0, []),
        ([2.0, 1.5], 8, []),
    ],
)
def test_half_as_many_threads_are_tried_as_long_as_they_are_faster(
    zoo: Path, monkeypatch: pytest.MonkeyPatch, speedups: list[float], wished: int, tried: list[int]
) -> None:
    monkeypatch.setattr("serow.engines.check.check.physical_cores", lambda: 8)
    engine = Engine(replace(LLAMA_CPP, flag_sets=(TWO_SLOTS, THREE_SLOTS)))
    results: list[Check] = []
    flag_sets = _worth_a_try(load_request(zoo / "zoo-think.gguf", engine=engine, num_thread=wished), results, SETTINGS)
    for flags, speedup in zip(flag_sets, speedups, strict=True):
        results.append(known(flags, speedup=speedup, reason="" if speedup else "texts"))
    assert [each.flags for each in results[:2]] == [TWO_SLOTS, THREE_SLOTS]
    assert [each.flags for each in results[2:]] == [FlagSet(num_parallel=2, num_thread=number) for number in tried]


async def test_a_cache_that_is_set_is_tried_beside_a_wheel_that_has_it_too(zoo: Path, tmp_path: Path) -> None:
    engine = fake(tmp_path, TWO_SLOTS, FlagSet(True, 2), FlagSet(False, 2))
    (result,) = await results_of(engine, think(zoo), replace(SETTINGS, kv_cache_type="q8_0"))
    assert result.flags == FlagSet(True, 2, cache_type="q8_0")  # all three come to that
    assert (result.reason, result.wheel_flags) == ("", FlagSet(True, cache_type="q8_0"))


@pytest.mark.parametrize(("passed", "tried"), [([True, True], [0, 1]), ([False, True], [0, 1]), ([False, False], [0, 1, 2, 3])])
def test_last_resorts_are_tried_only_where_nothing_else_passes(passed: list[bool], tried: list[int]) -> None:
    flag_sets = FlagSet(True, drafts=True), FlagSet(True), FlagSet(False), FlagSet(True, 1)
    kind, found = replace(LLAMA_CPP, flag_sets=flag_sets), dict[FlagSet, bool]()
    while flags := kind.next_to_try(found):
        found[flags] = dict(zip(flag_sets, passed, strict=False)).get(flags, False)
    assert list(found) == [flag_sets[each] for each in tried]


async def test_a_conversation_that_lost_a_token_is_noticed(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_FAKE_FAULT", "hole")
    (result,) = await results_of(fake(tmp_path), load_request(smollm2).model)
    assert re.match(r"(texts|conversation): .*the log-probabilities of token \d are \d\.\d+ nats away$", result.reason)


async def test_an_engine_that_is_slower_passes_and_its_speeds_tell(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_FAKE_FAULT", "slow")
    (result,) = await results_of(fake(tmp_path), think(zoo))
    assert result.passed
    assert result.speedup < 1


async def test_results_come_one_by_one_and_a_failure_does_not_end_the_check(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_FAKE_FAULT", "dies")
    steps: list[tuple[FlagSet | None, int, int]] = []
    async with aclosing(
        check(fake(tmp_path, TWO_SLOTS, ONE_SLOT), think(zoo), SETTINGS, lambda *step: steps.append(step))
    ) as results:
        assert not (await anext(results)).passed
        assert steps[-1][0] == TWO_SLOTS
        assert (await anext(results)).passed
    assert steps[:2] == [(None, 0, NUM_TEXTS), (None, 1, NUM_TEXTS)]
    assert [step[1:] for step in steps if step[0] == ONE_SLOT] == [(done, NUM_STEPS) for done in range(NUM_STEPS + 1)]


async def test_a_check_that_is_given_up_leaves_no_process(zoo: Path, tmp_path: Path) -> None:
    reached = asyncio.Event()

    def tell(flags: FlagSet | None, done: int, _: int) -> None:
        if flags and done == 3:
            reached.set()

    async def run() -> None:
        async with aclosing(check(fake(tmp_path), think(zoo), SETTINGS, tell)) as results:
            await anext(results)

    before = set(psutil.Process().children(recursive=True))
    task = asyncio.create_task(run())
    async with asyncio.timeout(DEADLINE):
        await reached.wait()
    assert len(set(psutil.Process().children(recursive=True)) - before) == 3  # the wheel, the launcher, its program
    task.cancel()
    await asyncio.wait([task], timeout=DEADLINE)
    assert task.cancelled()
    assert set(psutil.Process().children(recursive=True)) <= before


async def test_pictures_are_part_of_the_check_of_a_model_that_sees(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_request(zoo / "zoo-vision.gguf", zoo / "zoo-vision-mmproj.gguf").model
    (result,) = await results_of(fake(tmp_path), model)
    assert (result.reason, result.model) == ("", "zoo-vision.gguf+zoo-vision-mmproj.gguf")
    monkeypatch.setenv("LLAMA_FAKE_FAULT", "blind")
    (result,) = await results_of(fake(tmp_path), model)
    assert result.reason.startswith("pictures: behind a picture")


async def test_a_model_that_the_wheel_can_not_load_is_no_failure_of_the_engine(zoo: Path, tmp_path: Path) -> None:
    weights = tmp_path / "broken.gguf"
    weights.write_bytes((zoo / "zoo-think.gguf").read_bytes()[:20000])
    with pytest.raises(LoadError, match=r"^could not load the model: the model file is broken$"):
        await results_of(fake(tmp_path), load_request(weights).model)


REFUSED = [
    (WHEEL, {}, "the wheel is what other engines are measured by"),
    (Engine(LLAMA_CPP), {"capabilities": ("image",)}, "zoo-think:latest draws pictures; engines are for language models"),
    (Engine(IK), {"projector": Path("eyes")}, "the engine ik can't see pictures, and zoo-think:latest does"),
]


@pytest.mark.parametrize(("engine", "fields", "sentence"), REFUSED, ids=[engine.name for engine, *_ in REFUSED])
async def test_what_can_not_be_checked_is_refused_in_words(
    zoo: Path, engine: Engine, fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RequestError, match=f"^{sentence}$"):
        await results_of(engine, replace(think(zoo), **fields))


@pytest.mark.native
@pytest.mark.parametrize(
    ("kind", "flags"),
    [(kind, flags) for kind in EXECUTABLES for flags in KINDS[kind].flag_sets],
    ids=str,
)
async def test_an_engine_of_this_machine_passes(smollm2: Path, kind: str, flags: FlagSet) -> None:
    engine = engine_of(kind)
    (result,) = await results_of(replace(engine, kind=replace(engine.kind, flag_sets=(flags,))), load_request(smollm2).model)
    assert result.reason == ""
