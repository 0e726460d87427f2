"""Every kind of engine that there is, each loaded once with the tiny models."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from serow.engines.kinds import Engine, Feature
from serow.engines.llamacpp.runner import LlamaRunner
from serow.settings import Settings
from tests.engines.llamacpp.engines import EXECUTABLES, engine_of, load_request


@pytest.fixture(scope="session", params=["wheel", *(pytest.param(kind, marks=pytest.mark.native) for kind in EXECUTABLES)])
def engine(request: pytest.FixtureRequest) -> Engine:
    """The wheel, and each engine whose executable a variable names."""
    return engine_of(request.param)


@pytest_asyncio.fixture(scope="session")
async def think(engine: Engine, zoo: Path) -> AsyncIterator[LlamaRunner]:
    """zoo-think in four slots of 512 tokens."""
    runner = LlamaRunner(load_request(zoo / "zoo-think.gguf", engine=engine), Settings())
    await runner.load()
    yield runner
    await runner.close()


@pytest_asyncio.fixture(scope="session")
async def vision(engine: Engine, zoo: Path) -> AsyncIterator[LlamaRunner]:
    """zoo-vision with its projector."""
    if not engine.can(frozenset({Feature.VISION})):
        pytest.skip(f"the engine {engine.name} can't {Feature.VISION}")
    runner = LlamaRunner(load_request(zoo / "zoo-vision.gguf", zoo / "zoo-vision-mmproj.gguf", engine=engine), Settings())
    await runner.load()
    yield runner
    await runner.close()
