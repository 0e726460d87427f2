import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from serow.store.store import Store
from tests.compat.wire import Wire
from tests.conftest import create, pulled
from tests.support import minilm
from tests.support.server import running_server


@pytest.fixture(scope="session")
def wire(server: str) -> Iterator[Wire]:
    """A client of the server that all tests share."""
    wire = Wire(server)
    with wire.client:
        yield wire


@pytest.fixture(scope="module")
def golden_server(tmp_path_factory: pytest.TempPathFactory, zoo: Path, smollm2: Path) -> Iterator[str]:
    """A server of its own for the recorded exchanges, which make and delete models."""
    store = Store(tmp_path_factory.mktemp("golden"))
    create(store, "zoo-think", zoo / "zoo-think.gguf")
    create(store, "zoo-vision", zoo / "zoo-vision.gguf", zoo / "zoo-vision-mmproj.gguf")
    create(store, "smollm2:135m", smollm2)
    for name in ("qwen2.5-coder:0.5b", "gemma3:270m") if os.environ.get("SEROW_TEST_LARGE") else ():
        create(store, name, pulled(name))
    create(store, "all-minilm", minilm.gguf())
    with running_server(store.root) as url:
        yield url
