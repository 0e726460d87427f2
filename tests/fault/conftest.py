import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def own_heap() -> Iterator[None]:
    """Leave what thousands of other tests have made to no collection: it would hold the loop as no server's own heap does."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
