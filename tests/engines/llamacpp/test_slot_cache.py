"""What is kept of the slots of unloaded models: by which key, how much, how long, and by nobody else readable."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from serow.engines.base import LoadRequest
from serow.engines.kinds import IK, WHEEL, Engine, FlagSet
from serow.engines.llamacpp.slot_cache import SlotCache, SlotPlace
from tests.engines.llamacpp.engines import load_request

KB = 1000  # bytes


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "sha256-a"
    path.write_bytes(b"GGUF")
    return path


@pytest.fixture
def cache(tmp_path: Path) -> SlotCache:
    return SlotCache(tmp_path / "slots", 100 * KB)


def opened(cache: SlotCache, request: LoadRequest) -> SlotPlace:
    place = cache.place(request)
    assert place is not None
    place.open()
    return place


def leave(cache: SlotCache, request: LoadRequest, *sizes: int) -> None:
    """Load the model, save slots of these sizes in the engine's place, unload it."""
    place = opened(cache, request)
    for size in sizes:
        if name := place.make_room(size):
            (place.path / name).write_bytes(b"x" * size)
            place.keep()
    place.close()


def found(cache: SlotCache, request: LoadRequest) -> list[int]:
    """The sizes that the next load finds; looking changes nothing."""
    place = opened(cache, request)
    sizes = list(place.saved())
    place.close()
    return sizes


def test_what_a_model_leaves_is_there_for_its_next_load(cache: SlotCache, weights: Path) -> None:
    leave(cache, load_request(weights), 3 * KB, 2 * KB)
    place = opened(cache, load_request(weights))
    assert place.saved() == (3 * KB, 2 * KB)
    assert (place.path / place.take(1, 2 * KB)).stat().st_size == 2 * KB


def another_file(request: LoadRequest) -> LoadRequest:
    request.model.weights.write_bytes(b"GGUF, another one")
    return request


CHANGES: dict[str, Callable[[LoadRequest], LoadRequest]] = {
    "model file": another_file,
    "engine": lambda request: replace(request, engine=Engine(IK)),
    "build": lambda request: replace(request, engine=replace(WHEEL, build="next")),
    "slots": lambda request: replace(request, num_parallel=3),
    "context": lambda request: load_request(request.model.weights, num_ctx=1024),
    "layers on the GPU": lambda request: load_request(request.model.weights, num_gpu=3),
    "flash attention": lambda request: replace(request, flags=FlagSet(flash_attention=False)),
    "cache type": lambda request: replace(request, flags=FlagSet(cache_type="q8_0")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_what_has_another_shape_is_not_offered(
    cache: SlotCache, weights: Path, change: Callable[[LoadRequest], LoadRequest]
) -> None:
    leave(cache, load_request(weights), KB)
    assert found(cache, change(load_request(weights))) == []


def test_what_changes_the_speed_only_fits(cache: SlotCache, weights: Path) -> None:
    leave(cache, load_request(weights), KB)
    assert found(cache, load_request(weights, num_thread=2, num_batch=64)) == [KB]


def test_nothing_is_kept_of_slots_with_pictures(cache: SlotCache, weights: Path) -> None:
    assert cache.place(load_request(weights, projector=weights)) is None


def test_what_is_taken_is_never_offered_again(cache: SlotCache, weights: Path) -> None:
    leave(cache, load_request(weights), KB)
    place = opened(cache, load_request(weights))
    place.take(0, KB)
    place.close()  # the engine fell
    place = opened(cache, load_request(weights))
    assert [place.take(0, size) for size in place.saved()] == [""]


@pytest.mark.parametrize("size", [0, KB - 1, KB + 1])
def test_a_file_that_is_not_whole_is_not_taken(cache: SlotCache, weights: Path, size: int) -> None:
    leave(cache, load_request(weights), KB)
    place = opened(cache, load_request(weights))
    (file,) = cache.root.glob("*/0.slot")
    file.write_bytes(b"x" * size)
    assert place.take(0, KB) == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weights": 1, "sizes": [1]}', '{"weights": "/", "sizes": ["../1"]}'])
def test_a_record_that_can_not_be_read_offers_nothing(cache: SlotCache, weights: Path, text: str) -> None:
    leave(cache, load_request(weights), KB)
    (record,) = cache.root.glob("*/record.json")
    record.write_text(text)
    assert found(cache, load_request(weights)) == []
    cache.sweep()
    assert not list(cache.root.iterdir())


def test_what_was_being_written_when_the_server_was_killed_is_not_believed(cache: SlotCache, weights: Path) -> None:
    place = opened(cache, load_request(weights))
    (place.path / place.make_room(KB)).write_bytes(b"x")
    assert found(cache, load_request(weights)) == []
    cache.sweep()
    assert place.path.exists()  # it might be another server's
    os.utime(place.path, (0, time.time() - 2 * 3600))
    cache.sweep()
    assert not list(cache.root.iterdir())


def test_what_was_being_written_when_its_time_was_over_is_left_out(cache: SlotCache, weights: Path) -> None:
    place = opened(cache, load_request(weights))
    (place.path / place.make_room(KB)).write_bytes(b"x" * KB)
    place.keep()
    (place.path / place.make_room(KB)).write_bytes(b"x")
    place.close()
    assert sorted(file.name for file in cache.root.glob("*/[!.]*")) == ["0.slot", "record.json"]
    assert found(cache, load_request(weights)) == [KB]


def test_the_least_recently_used_models_give_way(cache: SlotCache, weights: Path) -> None:
    requests = [load_request(weights, num_ctx=num_ctx) for num_ctx in (256, 512, 768, 1024)]
    for age, request in zip((3, 1, 2), requests, strict=False):
        leave(cache, request, 30 * KB)
        newest = max(cache.root.iterdir(), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (0, time.time() - age * 60))
    leave(cache, requests[3], 30 * KB, 30 * KB)
    assert [found(cache, request) for request in requests] == [[], [30 * KB], [], [30 * KB, 30 * KB]]


def test_what_is_larger_than_the_limit_is_left_out_and_pushes_nobody_aside(cache: SlotCache, weights: Path) -> None:
    other = load_request(weights, num_ctx=1024)
    leave(cache, other, 30 * KB)
    leave(cache, load_request(weights), 101 * KB, 20 * KB)
    assert (found(cache, load_request(weights)), found(cache, other)) == ([20 * KB], [30 * KB])


def test_what_turns_out_larger_than_it_was_said_to_be_is_removed(cache: SlotCache, weights: Path) -> None:
    place = opened(cache, load_request(weights))
    (place.path / place.make_room(KB)).write_bytes(b"x" * 101 * KB)
    place.keep()
    place.close()
    assert not list(cache.root.iterdir())


def test_half_of_the_free_disk_space_stays_free(cache: SlotCache, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(weights)._replace(free=50 * KB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    leave(cache, load_request(weights), 26 * KB, 24 * KB)
    assert found(cache, load_request(weights)) == [24 * KB]


def test_a_lower_limit_holds_from_the_next_start_on(cache: SlotCache, weights: Path) -> None:
    leave(cache, load_request(weights), 30 * KB)
    SlotCache(cache.root, 20 * KB).sweep()
    assert not list(cache.root.iterdir())


def test_switched_off_it_keeps_nothing_and_removes_what_was_kept_and_nothing_else(cache: SlotCache, weights: Path) -> None:
    leave(cache, load_request(weights), KB)
    (cache.root / "letters").mkdir()
    off = SlotCache(cache.root, 0)
    off.sweep()
    assert [path.name for path in cache.root.iterdir()] == ["letters"]
    assert off.place(load_request(weights)) is None


def test_what_users_said_goes_with_the_model_file(cache: SlotCache, weights: Path) -> None:
    leave(cache, load_request(weights), KB)
    weights.unlink()
    cache.sweep()
    assert not list(cache.root.iterdir())


def test_a_model_whose_file_went_while_it_was_loaded_leaves_nothing(cache: SlotCache, weights: Path) -> None:
    place = opened(cache, load_request(weights))
    (place.path / place.make_room(KB)).write_bytes(b"x" * KB)
    place.keep()
    weights.unlink()
    place.close()
    assert not list(cache.root.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_nobody_else_can_look_into_it(cache: SlotCache, weights: Path) -> None:
    leave(cache, load_request(weights), KB)
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in (cache.root, *cache.root.glob("*"), *cache.root.glob("*/*.json"))
    }
    assert set(modes.values()) == {0o700, 0o600}
    assert modes["record.json"] == 0o600


def test_sweeping_makes_no_directory_and_bears_one_that_is_none(cache: SlotCache, weights: Path) -> None:
    cache.sweep()
    assert not cache.root.exists()
    SlotCache(weights, KB).sweep()
    assert weights.exists()
