"""A language model in a vLLM of its own, which is a child of ours: the TextRunner (REM-07)."""

import math

import aiohttp

from serow.engines.base import LoadRequest
from serow.engines.llamacpp.spec import memory_limit
from serow.engines.process import ChildProcess, ChildRunner
from serow.engines.remote.completions import CompletionsRunner
from serow.engines.vllm.arguments import NAME, describe
from serow.engines.vllm.errors import explain_load, shortage
from serow.engines.watchdog import Watchdog
from serow.errors import EngineError, LoadError
from serow.settings import Settings
from serow.workers.pool import Pool


class VllmRunner(ChildRunner, CompletionsRunner):
    """One process for one model. It takes a minute to start: torch is imported, and kernels are compiled."""

    def __init__(self, request: LoadRequest, settings: Settings, pool: Pool) -> None:
        super().__init__(request.model, NAME, "the engine", pool, settings.stall_timeout)
        self._child = ChildProcess(
            "serow.engines.vllm.launcher",
            describe(request),
            load_timeout=settings.load_timeout,
            stall_timeout=math.inf,  # the watchdog's business: one request may wait for others
            explain=explain_load,
            memory_limit=0 if request.uses else memory_limit(request.memory, request.prompt_cache),
        )
        stalled = f"the engine made no progress for {settings.stall_timeout:g} seconds"
        self._watchdog = Watchdog(settings.stall_timeout, lambda: self._child.kill(stalled))

    async def _start(self) -> None:
        """Start it and wait until the model is in memory; raises LoadError, NotEnoughMemory."""
        try:
            await self._child.start()
        except LoadError as error:
            if too_little := shortage(self._child.stderr):
                raise too_little from error
            raise

    async def _connect(self, method: str, path: str, data: bytes | None) -> aiohttp.ClientResponse:
        if not self.is_alive:
            raise await self._child.gone()
        try:
            with self._watchdog:
                return await self._child.session.request(method, path, data=data, allow_redirects=False)
        except aiohttp.ClientError:
            raise await self._child.gone() from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """More of an answer; the engine is watched while we wait for it, not while the client takes its time."""
        with self._watchdog:
            piece = await super()._read(response)
        self._watchdog.progress()
        return piece

    async def _broken(self) -> EngineError:
        return await self._child.gone()
