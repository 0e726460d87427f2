import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from serow.settings import Settings
from serow.store.store import Store
from tests.conftest import create
from tests.support.server import Running, running


@pytest.fixture(scope="module", autouse=True)
def own_heap() -> Iterator[None]:
    """Leave what thousands of other tests have made to no collection: it would hold the loop as no server's own heap does."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest_asyncio.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory, zoo: Path) -> AsyncIterator[Running]:
    """A server that may be attacked."""
    root = tmp_path_factory.mktemp("attacked") / "models"
    create(Store(root), "zoo-think", zoo / "zoo-think.gguf")
    create(Store(root), "zoo-vision", zoo / "zoo-vision.gguf", zoo / "zoo-vision-mmproj.gguf")
    async with running(Settings(models=root, stall_timeout=2.0)) as started:
        started.root = root
        yield started
