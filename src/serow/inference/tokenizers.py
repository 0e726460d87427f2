"""Engines that hold a model's vocabulary and chat template only: prompts are counted without loading the model (ANT-10)."""

import asyncio
import hashlib
import tempfile
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from serow.engines.base import LoadRequest, Runner, TextRunner
from serow.options import LoadOptions
from serow.store.model import Model
from serow.store.tokenizer_file import write

MOST = 2  # engines at a time; the one that was used longest ago goes
IDLE = 300.0  # seconds, after which an engine goes
_SWEEP = 30.0
_OPTIONS = LoadOptions(num_ctx=256, num_gpu=0, num_thread=1)


@dataclass
class _Engine:
    runner: TextRunner
    used_at: float
    num_users: int = 0
    is_unwanted: bool = False  # it goes with the next sweep that finds it idle


class Tokenizers:
    """The engines, as an async context that ends them."""

    def __init__(self, start: Callable[[LoadRequest], Runner]) -> None:
        self._start = start
        self._engines: OrderedDict[Path, _Engine] = OrderedDict()  # by the weights; the one used last stands last
        self._lock = asyncio.Lock()  # one starts or ends at a time
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        async with self._lock:
            for weights in list(self._engines):
                await self._end(weights)
        if self._folder is not None:
            await asyncio.to_thread(self._folder.cleanup)

    @asynccontextmanager
    async def of(self, model: Model) -> AsyncIterator[TextRunner]:
        """An engine that tokenizes and renders as this model does. Raises ModelFileError, LoadError."""
        async with self._lock:
            engine = await self._ready(model)
            engine.num_users += 1
        try:
            yield engine.runner
        finally:
            engine.num_users -= 1
            engine.used_at = time.monotonic()

    async def unload(self, model: Model) -> None:
        """End the engine that this model's prompts are counted with; one that is in use goes later."""
        async with self._lock:
            engine = self._engines.get(model.weights)
            if engine is None:
                return
            engine.is_unwanted = True
            if not engine.num_users:
                await self._end(model.weights)

    async def _ready(self, model: Model) -> _Engine:
        engine = self._engines.get(model.weights)
        if engine is None or not engine.runner.is_alive:
            if engine is not None:
                await self._end(model.weights)
            await self._make_room()
            engine = self._engines[model.weights] = _Engine(await self._load(model), time.monotonic())
            self._sweeper = self._sweeper or asyncio.create_task(self._sweep())
        self._engines.move_to_end(model.weights)
        return engine

    async def _load(self, model: Model) -> TextRunner:
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="serow-tokenizers-")
        path = Path(self._folder.name, f"{hashlib.sha256(str(model.weights).encode()).hexdigest()}.gguf")
        await asyncio.to_thread(write, model.weights, path)
        small = replace(model, weights=path, projector=None, adapters=(), kv_bytes=0)
        runner = cast(TextRunner, self._start(LoadRequest(small, _OPTIONS, num_parallel=1, prompt_cache=0)))
        await runner.load()
        return runner

    async def _make_room(self) -> None:
        idle = [weights for weights, engine in self._engines.items() if not engine.num_users]
        for weights in idle[: max(0, len(self._engines) - MOST + 1)]:
            await self._end(weights)

    async def _end(self, weights: Path) -> None:
        await self._engines[weights].runner.close()
        del self._engines[weights]  # last: who is cancelled before leaves it for the next one to end

    async def _sweep(self) -> None:
        """End what has died, what was unloaded meanwhile, and what nobody has used for a while."""
        while True:
            await asyncio.sleep(_SWEEP)
            async with self._lock:
                oldest = time.monotonic() - IDLE
                for weights, engine in list(self._engines.items()):
                    is_over = engine.is_unwanted or engine.used_at < oldest or not engine.runner.is_alive
                    if is_over and not engine.num_users:
                        await self._end(weights)
