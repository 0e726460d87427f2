"""Prompts that survive an unload, with every engine: new tokens only are read, the text is the same, no file does harm."""

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from serow.engines.base import CompletionRequest, LoadRequest, Usage
from serow.engines.kinds import IK, Engine
from serow.engines.llamacpp import slots as llama_slots
from serow.engines.llamacpp.runner import LlamaRunner
from serow.engines.llamacpp.slot_cache import SlotCache, SlotPlace
from serow.errors import EngineDied
from serow.settings import Settings
from tests.engines.llamacpp.engines import DEADLINE, chunks_of, completion, load_request, text_of

PROMPT, OTHER = [*range(10, 210)], [*range(300, 400)]
NEXT = [401, 402]  # what the user says next


@pytest.fixture
def cache(tmp_path: Path) -> SlotCache:
    return SlotCache(tmp_path / "slots", 1 << 30)


@pytest.fixture
def model(engine: Engine, zoo: Path) -> LoadRequest:
    return load_request(zoo / "zoo-think.gguf", engine=engine)


@asynccontextmanager
async def loaded(model: LoadRequest, cache: SlotCache | None) -> AsyncIterator[LlamaRunner]:
    """The model in memory; it is unloaded at the end."""
    runner = LlamaRunner(model, Settings(), cache)
    await runner.load()
    try:
        yield runner
    finally:
        await runner.close()


async def usage_of(runner: LlamaRunner, request: CompletionRequest) -> Usage:
    usage = (await chunks_of(runner, request))[-1].usage
    assert usage is not None
    async with runner._child.session.get("/slots"):  # an answer's end comes before its slot is free
        return usage


def parts(runner: LlamaRunner) -> list[psutil.Process]:
    """The engine's processes, the one that works first."""
    process = psutil.Process(runner.pid)
    return [*process.children(), process]


def falls(runner: LlamaRunner) -> None:
    for part in parts(runner):
        part.kill()


def hangs(runner: LlamaRunner) -> None:
    deadline = time.monotonic() + DEADLINE
    for part in parts(runner):
        part.suspend()
        while part.status() != psutil.STATUS_STOPPED:  # on a busy machine a signal takes its time
            assert time.monotonic() < deadline


async def cached(runner: LlamaRunner, *prompts: list[int]) -> list[int]:
    """How many tokens of each prompt need not be read."""
    return [(await usage_of(runner, completion(prompt, 1))).prompt_cached_count for prompt in prompts]


async def leave(model: LoadRequest, cache: SlotCache, *prompts: list[int]) -> None:
    """Load the model, let it read prompts one after the other, unload it."""
    async with loaded(model, cache) as runner:
        await cached(runner, *prompts)


def saved(cache: SlotCache) -> list[str]:
    """What lies there, the engine's files beside the first of a slot left out."""
    return sorted(file.name for file in cache.root.glob("*/*") if file.suffix == ".slot")


async def test_a_conversation_that_goes_on_after_an_unload_reads_its_new_tokens_only(
    model: LoadRequest, cache: SlotCache
) -> None:
    await leave(model, cache, PROMPT)
    async with loaded(model, cache) as runner:
        assert await cached(runner, PROMPT + NEXT) == [len(PROMPT)]


async def test_the_text_is_that_of_a_warm_cache(model: LoadRequest, cache: SlotCache) -> None:
    async with loaded(model, cache) as runner:
        await cached(runner, PROMPT)
        warm = await text_of(runner, completion(PROMPT + NEXT))
    async with loaded(model, cache) as runner:
        assert await text_of(runner, completion(PROMPT + NEXT)) == warm


async def test_every_conversation_is_kept_and_the_one_used_longest_ago_gives_way_first(
    model: LoadRequest, cache: SlotCache
) -> None:
    prompts = [[first, *PROMPT] for first in range(500, 504)]
    await leave(model, cache, *prompts)
    async with loaded(model, cache) as runner:
        assert await cached(runner, OTHER, *prompts[:0:-1]) == [0, 200, 200, 200]
    assert len(saved(cache)) == 4


async def test_what_was_not_used_is_kept_over_the_next_unload(model: LoadRequest, cache: SlotCache) -> None:
    await leave(model, cache, PROMPT, OTHER)
    await leave(model, cache)
    async with loaded(model, cache) as runner:
        assert await cached(runner, PROMPT, OTHER) == [len(PROMPT) - 1, len(OTHER) - 1]


async def test_a_few_tokens_are_not_worth_it(model: LoadRequest, cache: SlotCache) -> None:
    await leave(model, cache, PROMPT[:40])
    assert not list(cache.root.iterdir())


async def test_a_request_without_prompt_cache_reads_everything_all_the_same(model: LoadRequest, cache: SlotCache) -> None:
    request = replace(completion(PROMPT), cache_prompt=False)
    async with loaded(model, cache) as runner:
        text = await text_of(runner, request)
    async with loaded(model, cache) as runner:
        assert (await usage_of(runner, request)).prompt_cached_count == 0
        assert await text_of(runner, request) == text


async def test_a_shifted_context_is_kept_only_as_what_it_is(model: LoadRequest, cache: SlotCache) -> None:
    endless = replace(completion(PROMPT, 600, logit_bias=((0, -1e9), (2, -1e9))), cache_prompt=False)
    async with loaded(model, cache) as runner:
        assert (await usage_of(runner, endless)).is_shifted
    async with loaded(model, None) as runner:
        expected = await text_of(runner, completion(PROMPT))
    async with loaded(model, cache) as runner:
        assert await text_of(runner, completion(PROMPT)) == expected


async def test_an_engine_that_was_killed_leaves_nothing(model: LoadRequest, cache: SlotCache) -> None:
    async with loaded(model, cache) as runner:
        await cached(runner, PROMPT)
        falls(runner)
        with pytest.raises(EngineDied):
            await cached(runner, PROMPT)
    assert not list(cache.root.iterdir())


async def test_a_slot_at_work_is_not_waited_for(model: LoadRequest, cache: SlotCache) -> None:
    endless = completion(PROMPT, -1, logit_bias=((0, -1e9), (2, -1e9)))
    async with loaded(model, cache) as runner:
        await cached(runner, OTHER)
        chunks = runner.complete(endless)
        await anext(chunks)
        began = time.monotonic()
        await runner.close()
        assert time.monotonic() - began < llama_slots.SAVE_TIME
        await chunks.aclose()
    assert saved(cache) == ["0.slot"]


async def test_saving_ends_in_time(model: LoadRequest, cache: SlotCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_slots, "SAVE_TIME", 0.2)
    async with loaded(model, cache) as runner:
        await cached(runner, PROMPT)
        hangs(runner)
    assert not list(cache.root.iterdir())


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "garbage": lambda data: os.urandom(len(data)),
    "zeros": lambda data: bytes(len(data)),
    "garbage behind its head": lambda data: data[:1000] + os.urandom(len(data) - 1000),
    "too many tokens": lambda data: data[:8] + b"\xff\xff\xff\x7f" + data[12:],
    "cut": lambda data: data[: len(data) // 2],
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=list(BROKEN))
async def test_a_broken_file_costs_its_slot_and_nothing_else(
    model: LoadRequest, cache: SlotCache, broken: Callable[[bytes], bytes]
) -> None:
    await leave(model, cache, PROMPT)
    (file,) = cache.root.glob("*/0.slot")
    file.write_bytes(broken(file.read_bytes()))
    async with loaded(model, cache) as runner:
        assert await cached(runner, PROMPT) == [0]
        assert not saved(cache)


@pytest.mark.parametrize("fate", [falls, hangs])
async def test_an_engine_that_falls_over_a_slot_is_started_again_without(
    model: LoadRequest, cache: SlotCache, monkeypatch: pytest.MonkeyPatch, fate: Callable[[LlamaRunner], None]
) -> None:
    monkeypatch.setattr(llama_slots, "_ANSWER_TIME", 0.5)
    await leave(model, cache, PROMPT)
    runner = LlamaRunner(model, Settings(), cache)
    take = SlotPlace.take

    def take_and_fall(place: SlotPlace, rank: int, size: int) -> str:
        fate(runner)
        return take(place, rank, size)

    monkeypatch.setattr(SlotPlace, "take", take_and_fall)
    await runner.load()
    assert await cached(runner, PROMPT) == [0]
    await runner.close()
    assert saved(cache) == ["0.slot"]


async def test_a_directory_that_can_not_be_made_keeps_nobody_from_loading(model: LoadRequest, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with loaded(model, SlotCache(tmp_path / "file" / "slots", 1 << 30)) as runner:
        assert await cached(runner, PROMPT, PROMPT) == [0, len(PROMPT) - 1]


async def test_what_the_engine_writes_only_its_owner_reads(model: LoadRequest, cache: SlotCache) -> None:
    await leave(model, cache, PROMPT)
    files = list(cache.root.glob("*/[!.]*"))
    assert len(files) == (3 if model.engine.kind is IK else 2)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
