"""An engine to sample with."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from serow.runner.llama import LlamaRunner
from serow.settings import Settings
from tests.runner.engines import load_request


@pytest_asyncio.fixture(scope="session")
async def engine(zoo: Path) -> AsyncIterator[LlamaRunner]:
    """zoo-think on the wheel's engine, in four slots of 512 tokens."""
    runner = LlamaRunner(load_request(zoo / "zoo-think.gguf"), Settings())
    await runner.load()
    yield runner
    await runner.close()
