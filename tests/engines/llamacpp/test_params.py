"""What an engine is started with: numbers within what it can bear, and both spellings the same."""

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serow.devices.use import Use
from serow.engines.base import LoadRequest
from serow.engines.child import Listen
from serow.engines.kinds import IK, KINDS, LLAMA_CPP, Engine, FlagSet
from serow.engines.llamacpp.flags import ik_flags, llama_cpp_flags
from serow.engines.llamacpp.params import common_params, describe
from serow.engines.llamacpp.request import completion_body
from serow.engines.llamacpp.spec import LlamaSpec, batch_size, draft_sizes, physical_cores, usable_cores
from serow.store.guesser import Guesser
from tests.engines.llamacpp.engines import ZOO, completion, load_request

HUGE = 2**63 - 1
Flags = Callable[[LlamaSpec, Listen, bool], Iterator[str]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_batch": 0}, {"num_batch": 32}),
        ({"num_batch": -8}, {"num_batch": 32}),
        ({"num_batch": HUGE}, {"num_batch": 2**31 - 1}),
        ({"num_gpu": -7}, {"num_gpu": -1}),
        ({"main_gpu": -7}, {"main_gpu": 0}),
        ({"num_thread": 1}, {"num_thread": 1}),
        ({"num_thread": 0}, {"num_thread": physical_cores()}),
        ({"num_thread": HUGE}, {"num_thread": usable_cores()}),
        ({"num_ctx": HUGE}, {"num_ctx": (2**31 - 1) // 4}),
        ({"use_mmap": False}, {"use_mmap": False}),
    ],
)
def test_load_options_are_held_to_what_the_engine_can_bear(options: dict[str, Any], expected: dict[str, Any]) -> None:
    spec = msgspec.structs.asdict(describe(load_request(ZOO / "zoo-think.gguf", **options)))
    assert {name: spec[name] for name in expected} == expected


@pytest.mark.req("LIFE-05")
@pytest.mark.parametrize(
    ("options", "projector", "has_gpu", "expected"),
    [
        ({}, None, False, 64),
        ({"num_batch": 33}, None, False, 33),
        ({"num_gpu": 0}, None, True, 64),
        ({}, None, True, 512),
        ({"num_batch": 2048}, None, True, 2048),
        ({"num_batch": 8}, ZOO / "zoo-vision-mmproj.gguf", False, 512),
    ],
)
def test_batches_are_short_on_a_cpu_and_hold_a_picture(
    options: dict[str, Any], projector: Path | None, has_gpu: bool, expected: int
) -> None:
    spec = describe(load_request(ZOO / "zoo-think.gguf", projector, **options))
    assert batch_size(spec, has_gpu=has_gpu) == expected


@pytest.mark.parametrize(
    ("chosen", "wished", "expected"), [(0, 0, (8, 8)), (4, 0, (4, 8)), (16, 0, (8, 8)), (4, 6, (6, 6)), (4, HUGE, (16, 16))]
)
def test_fewer_threads_decode_where_that_is_faster_unless_the_user_wishes_otherwise(
    monkeypatch: pytest.MonkeyPatch, chosen: int, wished: int, expected: tuple[int, int]
) -> None:
    monkeypatch.setattr("serow.engines.llamacpp.params.physical_cores", lambda: 8)
    monkeypatch.setattr("serow.engines.llamacpp.params.usable_cores", lambda: 16)
    request = load_request(ZOO / "zoo-think.gguf", num_thread=wished)
    spec = describe(replace(request, flags=FlagSet(num_thread=chosen)))
    assert (spec.num_thread, spec.num_thread_batch) == expected


@pytest.mark.parametrize(
    ("num_parallel", "options", "has_gpu", "expected"),
    [
        (8, {}, False, (8, 15, 0)),  # in batches of 128
        (1, {}, False, (8, 15, 0)),
        (8, {"num_batch": 64}, False, (7, 7, 0)),
        (8, {"num_batch": 1024}, True, (8, 15, 0)),
        (32, {"num_batch": 32}, False, (0, 0, 0)),
    ],
)
def test_the_guesses_of_all_slots_fit_in_a_batch(
    num_parallel: int, options: dict[str, Any], has_gpu: bool, expected: tuple[int, int, int]
) -> None:
    request = load_request(ZOO / "zoo-think.gguf", num_parallel=num_parallel, **options)
    spec = describe(replace(request, flags=FlagSet(drafts=True)))
    batch = batch_size(spec, has_gpu=has_gpu)
    assert draft_sizes(spec, batch) == expected
    assert num_parallel * (1 + expected[1]) <= batch
    assert draft_sizes(describe(request), batch) == (0, 0, 0)


@pytest.mark.parametrize(("use_mmap", "expected"), [(None, True), (False, True), (True, False)])
def test_weights_are_repacked_where_that_is_chosen_unless_the_user_wants_the_file_mapped(
    use_mmap: bool | None, expected: bool
) -> None:
    request = load_request(ZOO / "zoo-think.gguf", use_mmap=use_mmap, engine=Engine(IK))
    listen = Listen("x", 0, "k")
    spec = describe(replace(request, flags=FlagSet(repack=True)))
    assert ("--run-time-repack" in ik_flags(spec, listen, False)) is expected
    assert "--run-time-repack" not in ik_flags(describe(request), listen, False)
    assert "--run-time-repack" not in llama_cpp_flags(spec, listen, False)


def test_physical_cores_are_those_that_may_be_used() -> None:
    assert 1 <= physical_cores() <= 4096


@pytest.mark.parametrize("flags", [llama_cpp_flags, ik_flags])
def test_the_wheel_and_an_executable_are_told_the_same(flags: Flags) -> None:
    spec = describe(load_request(ZOO / "zoo-think.gguf", num_batch=100, main_gpu=1, num_thread=2, num_gpu=3))
    listen = Listen("/tmp/x.sock", 0, "key")
    params, told = common_params(spec, listen), list(flags(spec, listen, False))
    spoken = {
        "--model": params.model.path,
        "--host": params.hostnames[0],
        "--ctx-size": params.n_ctx,
        "--parallel": params.n_parallel,
        "--batch-size": params.n_batch,
        "--ubatch-size": params.n_ubatch,
        "--n-gpu-layers": params.n_gpu_layers,
        "--main-gpu": params.main_gpu,
        "--threads": params.cpuparams.n_threads,
        "--threads-batch": params.cpuparams_batch.n_threads,
        "--cache-ram": params.cache_ram_mib,
    }
    assert {name: told[told.index(name) + 1] for name in spoken} == {name: str(value) for name, value in spoken.items()}


def placed(*layers: int, num_layers: int = 5) -> list[str]:
    """What llama.cpp is told of so many layers on each of its devices."""
    uses = tuple(Use(id=str(number), handle=f"CUDA{number}", layers=count) for number, count in enumerate(layers))
    request = replace(load_request(ZOO / "zoo-think.gguf"), uses=uses, num_layers=num_layers)
    return list(llama_cpp_flags(describe(request), Listen("/tmp/x.sock", 0, "key"), True))


@pytest.mark.req("DEV-04")
@pytest.mark.parametrize(
    ("layers", "told", "left_out"),
    [
        ((5,), "--device CUDA0 --n-gpu-layers 5 --split-mode none --main-gpu 0", "--tensor-split"),
        ((2,), "--device CUDA0 --n-gpu-layers 2 --split-mode none --main-gpu 0", "--tensor-split"),
        ((3, 2), "--device CUDA0,CUDA1 --n-gpu-layers 5 --split-mode layer --tensor-split 3,2 --main-gpu 0", "auto-fit"),
        ((), "--device none --n-gpu-layers 0 --split-mode none", "--main-gpu"),
    ],
)
def test_a_placement_is_spelt_out_and_the_engine_guesses_nothing(layers: tuple[int, ...], told: str, left_out: str) -> None:
    arguments = placed(*layers)
    words = told.split()
    assert {name: arguments[arguments.index(name) + 1] for name in words[::2]} == dict(
        zip(words[::2], words[1::2], strict=True)
    )
    assert left_out not in arguments
    assert arguments[arguments.index("--fit") + 1] == "off"


@pytest.mark.req("DEV-05")
def test_an_engine_tells_its_buffers_where_devices_hold_something_and_only_failures_elsewhere() -> None:
    assert [arguments[arguments.index("--log-verbosity") + 1] for arguments in (placed(5), placed())] == ["4", "1"]


def test_a_model_without_a_plan_is_started_as_the_engine_itself_decides() -> None:
    assert "--device" not in placed(num_layers=0)


@pytest.mark.skipif(sys.platform == "win32", reason="ik_llama.cpp takes the key nowhere else there")
@pytest.mark.parametrize("flags", [llama_cpp_flags, ik_flags])
def test_the_key_is_no_argument_of_the_executable(flags: Flags) -> None:
    spec = describe(load_request(ZOO / "zoo-think.gguf"))
    assert "secret" not in " ".join(flags(spec, Listen("127.0.0.1", 1234, "secret"), True))


@pytest.mark.parametrize(
    ("memory", "prompt_cache", "embeds", "limit"),
    [(0, 0, False, 0), (100, 0, False, 200 + (1 << 30)), (100, 40, False, 160 + (1 << 30)), (100, 40, True, 0)],
)
def test_an_engine_may_hold_far_more_than_is_planned_and_no_more(
    memory: int, prompt_cache: int, embeds: bool, limit: int
) -> None:
    request = replace(load_request(ZOO / "zoo-think.gguf"), memory=memory, prompt_cache=prompt_cache, embeds=embeds)
    assert describe(request).memory_limit == limit


def guessed_for(parameters: dict[str, Any] | None = None, refusal: str = "", **flags: Any) -> LoadRequest:
    """A model that names a smaller one, in an engine that is to guess with it."""
    request = load_request(ZOO / "zoo-think.gguf", num_parallel=2)
    draft = Guesser(Path("small.gguf"), 1000, refusal=refusal)
    model = replace(request.model, draft=draft, parameters=parameters or {})
    return replace(request, model=model, flags=FlagSet(draft_model=True, **flags))


def arguments_of(request: LoadRequest, flags: Flags = llama_cpp_flags) -> dict[str, str]:
    """What the executable is told, the last of each name."""
    told = list(flags(describe(request), Listen("/tmp/x.sock", 0, "key"), False))
    return dict(itertools.pairwise(told))


@pytest.mark.req("GEN-06", "DEV-09")
@pytest.mark.parametrize(
    ("parameters", "num_guess"), [({}, "8"), ({"draft_num_predict": 3}, "3"), ({"num_draft": 10**9}, "64")]
)
def test_a_smaller_model_guesses_so_many_tokens_as_the_modelfile_says_and_a_batch_holds(
    parameters: dict[str, Any], num_guess: str
) -> None:
    told = arguments_of(guessed_for(parameters))
    assert (told["--spec-type"], told["--spec-draft-model"], told["--spec-draft-n-max"]) == (
        "draft-simple",
        "small.gguf",
        num_guess,
    )
    assert arguments_of(guessed_for(drafts=True))["--spec-type"] == "ngram-simple,draft-simple"


@pytest.mark.req("DEV-04")
def test_a_smaller_model_lies_on_the_first_device_or_on_none() -> None:
    uses = tuple(Use(id=name, handle=name, layers=2) for name in ("CUDA0", "CUDA1"))
    assert "--spec-draft-device" not in arguments_of(guessed_for())  # nobody has planned
    for placed_on, device in ((uses, "CUDA0"), ((), "none")):
        told = arguments_of(replace(guessed_for(), uses=placed_on, num_layers=5))
        assert (told["--spec-draft-device"], told["--spec-draft-ngl"]) == (device, "all")


@pytest.mark.req("GEN-06")
@pytest.mark.parametrize(
    "request_",
    [
        guessed_for(refusal="it has other tokens than the model"),
        guessed_for({"draft_num_predict": 0}),
        load_request(ZOO / "zoo-think.gguf"),
    ],
)
def test_a_draft_that_can_not_guess_or_is_not_to_leaves_the_engine_as_it_is_without(request_: LoadRequest) -> None:
    assert not {"--spec-type", "--spec-draft-model", "--spec-draft-n-max"} & arguments_of(request_).keys()
    assert "--spec-draft-model" not in arguments_of(guessed_for(), ik_flags)  # which would guess with it in another way


@pytest.mark.req("DEV-09")
@pytest.mark.parametrize("flags", [llama_cpp_flags, ik_flags])
def test_keys_and_values_are_kept_in_eight_bits_where_that_is_chosen(flags: Flags) -> None:
    request = load_request(ZOO / "zoo-think.gguf")
    told = arguments_of(replace(request, flags=FlagSet(True, cache_type="q8_0")), flags)
    assert (told["--cache-type-k"], told["--cache-type-v"], told["--flash-attn"]) == ("q8_0", "q8_0", "on")
    assert "--cache-type-k" not in arguments_of(request, flags)
    assert all(each.flash_attention for kind in KINDS.values() for each in kind.flag_sets if each.cache_type != "f16")


@pytest.mark.req("GEN-06")
@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, None), ({"draft_num_predict": 0}, 0), ({"num_draft": 4}, 4), ({"num_draft": 4, "draft_num_predict": 2}, 2),
     ({"draft_num_predict": -3}, 0), ({"num_draft": HUGE}, 2**31 - 1)],
)  # fmt: skip
def test_a_request_says_how_many_tokens_are_guessed_at_once(options: dict[str, Any], expected: int | None) -> None:
    body = completion_body(completion([1], **options), 512, LLAMA_CPP)
    assert body.get("speculative.n_max") == expected
