"""An empty store for each test, and one with real models in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.store import Store

Make = Callable[..., list[str]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "models")


@pytest.fixture
def think(store: Store, zoo: Path) -> str:
    """The digest of zoo-think's file, uploaded."""
    return store.blobs.add(zoo / "zoo-think.gguf")


@pytest.fixture
def make(store: Store, think: str) -> Make:
    """Make a model of zoo-think's file, or of the recipe's own source; returns the statuses."""

    def made(name: str, **recipe: Any) -> list[str]:
        given = recipe if "source" in recipe or "files" in recipe else {"files": {"zoo-think.gguf": think}, **recipe}
        return [*store.create(Name.parse(name), Recipe(**given))]

    return made
