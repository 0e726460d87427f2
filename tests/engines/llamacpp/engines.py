"""What the tests of the runner share: how to name a model, ask for a text, and see a process end."""

import asyncio
import os
import select
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from serow.engines.base import Chunk, CompletionRequest, LoadRequest, TextRunner
from serow.engines.kinds import KINDS, WHEEL, Engine
from serow.engines.llamacpp.runner import LlamaRunner
from serow.options import LoadOptions, Options
from serow.store.model import Model
from serow.store.name import Name

DEADLINE = 20.0  # seconds
ENDLESS: dict[str, Any] = {"logit_bias": ((0, -1e9), (2, -1e9)), "temperature": 1.0, "seed": 1}  # it can't end
ZOO = Path(__file__).parents[1] / "models" / "zoo" / "lm"
EXECUTABLES = {"llama.cpp": "SEROW_TEST_LLAMA_SERVER", "ik": "SEROW_TEST_IK_SERVER"}  # variables that name them


def engine_of(kind: str) -> Engine:
    """The engine of a kind; skips when its variable names no executable."""
    if kind == WHEEL.name:
        return WHEEL
    executable = os.environ.get(EXECUTABLES[kind], "")
    if not executable:
        pytest.skip(f"{EXECUTABLES[kind]} names no llama-server executable")
    return Engine(KINDS[kind], executable=Path(executable), has_gpu=False)


def load_request(
    weights: Path, projector: Path | None = None, *, num_parallel: int = 4, engine: Engine = WHEEL, **options: Any
) -> LoadRequest:
    """A request to load a file as if the store had resolved it: 512 tokens a slot, one thread, unless options say otherwise."""
    name = Name.parse(weights.stem)
    model = Model(name=name, digest="", size=0, modified_at=datetime.now(UTC), weights=weights, projector=projector)
    return LoadRequest(model, LoadOptions(**{"num_ctx": 512, "num_thread": 1, **options}), num_parallel, engine)


def completion(prompt: Any, num_predict: int = 40, *, images: tuple[bytes, ...] = (), **options: Any) -> CompletionRequest:
    """A greedy request, unless the options say otherwise."""
    return CompletionRequest(prompt, Options(**{"temperature": 0.0, **options}), num_predict, images)


async def chunks_of(runner: TextRunner, request: CompletionRequest) -> list[Chunk]:
    """All chunks of a completion."""
    async with aclosing(runner.complete(request)) as chunks:
        return [chunk async for chunk in chunks]


async def text_of(runner: TextRunner, request: CompletionRequest) -> str:
    """The whole text of a completion."""
    return "".join(chunk.text for chunk in await chunks_of(runner, request))


async def chat(runner: TextRunner, content: str) -> list[int]:
    """The token ids of a user's message without thinking."""
    text = await runner.apply_template([{"role": "user", "content": content}], {"enable_thinking": False})
    return await runner.tokenize(text, add_special=True)


def ends(pidfd: int) -> bool:
    """Whether the process behind a pidfd has ended before the deadline, reaped or not."""
    try:
        return bool(select.select([pidfd], [], [], DEADLINE)[0])
    finally:
        os.close(pidfd)


async def slots(runner: LlamaRunner) -> list[bool]:
    """Which slots of the engine are at work."""
    async with runner._child.session.get("/slots") as response:
        return [slot["is_processing"] for slot in await response.json()]


async def until_slots(runner: LlamaRunner, wanted: list[bool]) -> None:
    """Wait until so many of them are."""
    async with asyncio.timeout(DEADLINE):
        while sorted(await slots(runner)) != wanted:
            pass
