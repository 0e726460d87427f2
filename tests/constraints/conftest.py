"""An engine to sample with, and formats compiled elsewhere."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from serow.constraints import Constraints
from serow.engines.llamacpp.runner import LlamaRunner
from serow.settings import Settings
from serow.workers.pool import Pool
from tests.engines.llamacpp.engines import load_request


@pytest_asyncio.fixture(scope="session")
async def engine(zoo: Path) -> AsyncIterator[LlamaRunner]:
    """zoo-think on the wheel's engine, in four slots of 512 tokens."""
    runner = LlamaRunner(load_request(zoo / "zoo-think.gguf"), Settings())
    await runner.load()
    yield runner
    await runner.close()


@pytest_asyncio.fixture(scope="session")
async def constraints() -> AsyncIterator[Constraints]:
    """With processes that have imported all they need: starting them is not what is measured."""
    async with Pool() as pool:
        await Constraints(pool).compile("json")
        yield Constraints(pool)
