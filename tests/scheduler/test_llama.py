"""The scheduler with real engines."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from serow.engines.llamacpp.runner import LlamaRunner
from serow.errors import EngineDied, LoadError
from serow.options import LoadOptions
from serow.scheduler.resident import Demand
from serow.scheduler.scheduler import Scheduler
from serow.settings import Settings
from serow.store.model import Model
from serow.store.name import Name

DEADLINE = 30.0  # seconds


@pytest.fixture
def think(zoo: Path) -> Model:
    weights = zoo / "zoo-think.gguf"
    return Model(
        name=Name.parse("zoo-think"),
        digest="",
        size=weights.stat().st_size,
        modified_at=datetime.now(UTC),
        weights=weights,
        context_length=2048,
        kv_bytes=1 << 10,
    )


@contextlib.asynccontextmanager
async def running_scheduler() -> AsyncIterator[Scheduler]:
    settings = Settings(num_parallel=2)
    async with asyncio.timeout(DEADLINE), Scheduler(settings, lambda request: LlamaRunner(request, settings)) as scheduler:
        yield scheduler


async def pid_of(scheduler: Scheduler, model: Model, options: LoadOptions | None = None) -> int:
    async with scheduler.lease(Demand(model, options or LoadOptions()), None) as lease:
        return lease.runner.pid


@pytest.mark.req("LIFE-01")
async def test_first_requests_share_one_process(think: Model) -> None:
    async with running_scheduler() as scheduler:
        pids = await asyncio.gather(*(pid_of(scheduler, think) for _ in range(4)))
    assert len(set(pids)) == 1
    assert pids[0] != os.getpid()


@pytest.mark.req("GEN-03", "LIFE-04")
async def test_an_unload_ends_the_process(think: Model) -> None:
    async with running_scheduler() as scheduler:
        pid = await pid_of(scheduler, think)
        await scheduler.unload(think)
        assert not psutil.pid_exists(pid)


@pytest.mark.req("LIFE-03")
@pytest.mark.parametrize("num_ctx", [100, 5000])
async def test_the_context_of_a_lease_is_the_engines(think: Model, num_ctx: int) -> None:
    async with running_scheduler() as scheduler, scheduler.lease(Demand(think, LoadOptions(num_ctx=num_ctx)), None) as lease:
        assert isinstance(lease.runner, LlamaRunner)
        assert lease.num_ctx == lease.runner.num_ctx


@pytest.mark.req("LIFE-06")
async def test_the_request_after_a_kill_gets_a_new_process(think: Model) -> None:
    async with running_scheduler() as scheduler:
        with pytest.raises(EngineDied):
            async with scheduler.lease(Demand(think, LoadOptions()), None) as lease:
                assert isinstance(lease.runner, LlamaRunner)
                os.kill(lease.runner.pid, signal.SIGKILL)
                await lease.runner.tokenize("x", add_special=False)
        assert await pid_of(scheduler, think) != lease.runner.pid


@pytest.mark.req("LIFE-06")
async def test_a_broken_file_is_reported(think: Model, tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    async with running_scheduler() as scheduler:
        with pytest.raises(LoadError):
            await pid_of(scheduler, replace(think, weights=tmp_path / "broken.gguf"))
        assert scheduler.loaded() == []


@pytest.mark.req("LIFE-05")
async def test_who_leaves_while_it_loads_leaves_an_engine_that_works(think: Model) -> None:
    async with running_scheduler() as scheduler:
        first = asyncio.create_task(pid_of(scheduler, think))
        await asyncio.sleep(0)
        first.cancel()
        await pid_of(scheduler, think)
        assert [loaded.num_running for loaded in scheduler.loaded()] == [0]
