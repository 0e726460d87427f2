import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from serow.engines.base import LoadRequest
from serow.engines.llamacpp.runner import LlamaRunner
from serow.inference import tokenizers
from serow.inference.tokenizers import MOST, Tokenizers
from serow.settings import Settings
from serow.store.model import Model
from serow.store.store import Store
from tests.support.engine import FakeEngine

DEADLINE = 30.0  # seconds
TEXT = "<|im_start|>user\nÜber 日本 😀 <tool_call>x<|im_end|>"


def named(model: Model, name: str) -> Model:
    return replace(model, weights=model.weights.with_name(f"{model.weights.name}-{name}"))


def starting(started: list[FakeEngine], kind: type[FakeEngine] = FakeEngine) -> Callable[[LoadRequest], FakeEngine]:
    """What starts engines of one kind, and keeps them."""

    def start(_: LoadRequest) -> FakeEngine:
        started.append(kind(["x"]))
        return started[-1]

    return start


@pytest.fixture
def model(models: Path) -> Model:
    return Store(models).resolve("zoo-think")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    """The engines that `start` has made."""
    monkeypatch.setattr(tokenizers, "write", lambda source, target: target.write_bytes(b""))
    return []


@pytest.mark.req("ANT-10")
async def test_a_vocabulary_alone_tokenizes_and_renders_as_the_model_does(model: Model) -> None:
    whole = LlamaRunner(LoadRequest(model, tokenizers._OPTIONS, num_parallel=1), Settings())
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    async with asyncio.timeout(DEADLINE), Tokenizers(lambda request: LlamaRunner(request, Settings())) as alone:
        await whole.load()
        try:
            async with alone.of(model) as runner:
                for text in (TEXT, "", "a\r\n\tb"):
                    tokens = await runner.tokenize(text, add_special=True)
                    assert tokens == await whole.tokenize(text, add_special=True)
                rendered = await runner.apply_template(messages, {"enable_thinking": False})
                assert rendered == await whole.apply_template(messages, {"enable_thinking": False})
        finally:
            await whole.close()


async def test_only_so_many_are_held_and_all_end_with_the_server(model: Model, started: list[FakeEngine]) -> None:
    async with asyncio.timeout(DEADLINE), Tokenizers(starting(started)) as held:
        for name in ("a", "b", "a", "c"):
            async with held.of(named(model, name)) as runner:
                assert await runner.tokenize("ab", add_special=True) == [97, 98]
        assert [engine.is_alive for engine in started] == [True, False, True] and MOST == 2
    assert not any(engine.is_alive for engine in started)


@pytest.mark.req("LIFE-04")
async def test_an_unloaded_model_leaves_no_engine_that_counts_for_it(model: Model, started: list[FakeEngine]) -> None:
    async with asyncio.timeout(DEADLINE), Tokenizers(starting(started)) as held:
        for name in ("a", "b"):
            async with held.of(named(model, name)):
                await held.unload(named(model, "a"))
        assert [engine.is_alive for engine in started] == [False, True], "b was counted with when a was unloaded"
        await held.unload(named(model, "b"))
        await held.unload(named(model, "b"))
        assert not started[1].is_alive


async def test_one_that_died_is_ended_by_the_next_sweep(
    model: Model, started: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizers, "_SWEEP", 0.01)
    ended = asyncio.Event()

    class Mortal(FakeEngine):
        async def close(self) -> None:
            await super().close()
            ended.set()

    async with asyncio.timeout(DEADLINE), Tokenizers(starting(started, Mortal)) as held:
        async with held.of(named(model, "a")):
            started[0].is_alive = False
        await ended.wait()


async def test_who_leaves_while_an_engine_ends_leaves_it_to_the_next_one(model: Model, started: list[FakeEngine]) -> None:
    closing = asyncio.Event()
    ended: list[FakeEngine] = []

    class Slow(FakeEngine):
        async def close(self) -> None:
            await super().close()
            if not closing.is_set():
                closing.set()
                await asyncio.Event().wait()
            ended.append(self)

    async def use(held: Tokenizers, name: str) -> None:
        async with held.of(named(model, name)):
            pass

    async with asyncio.timeout(DEADLINE), Tokenizers(starting(started, Slow)) as held:
        for name in ("a", "b"):
            await use(held, name)
        leaving = asyncio.create_task(use(held, "c"))
        await closing.wait()
        leaving.cancel()
        await asyncio.wait({leaving})
        await use(held, "c")
        assert ended == [started[0]]
