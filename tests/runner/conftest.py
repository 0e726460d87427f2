"""Both kinds of engine, each loaded once with the tiny models."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from serow.runner.llama import LlamaRunner
from serow.settings import Settings
from tests.runner.engines import load_request


@pytest.fixture(scope="session", params=["wheel", pytest.param("native", marks=pytest.mark.native)])
def settings(request: pytest.FixtureRequest) -> Settings:
    """Settings that choose the wheel, or the executable of SEROW_TEST_LLAMA_SERVER."""
    if request.param == "wheel":
        return Settings()
    executable = os.environ.get("SEROW_TEST_LLAMA_SERVER", "")
    if not executable:
        pytest.skip("SEROW_TEST_LLAMA_SERVER names no llama-server executable")
    return Settings(llama_server=executable)


@pytest_asyncio.fixture(scope="session")
async def think(settings: Settings, zoo: Path) -> AsyncIterator[LlamaRunner]:
    """zoo-think in four slots of 512 tokens."""
    runner = LlamaRunner(load_request(zoo / "zoo-think.gguf"), settings)
    await runner.load()
    yield runner
    await runner.close()


@pytest_asyncio.fixture(scope="session")
async def vision(settings: Settings, zoo: Path) -> AsyncIterator[LlamaRunner]:
    """zoo-vision with its projector."""
    runner = LlamaRunner(load_request(zoo / "zoo-vision.gguf", zoo / "zoo-vision-mmproj.gguf"), settings)
    await runner.load()
    yield runner
    await runner.close()
