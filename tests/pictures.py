"""What the tests of pictures share: the tiny real pipeline, its checker, and the reason to skip."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serow.engines.diffusers.runner import PACKAGES
from serow.images import decode_base64, encode_png
from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.pipeline import files_of
from serow.store.store import Store

ZOO = Path(__file__).parent / "models" / "zoo" / "image"
SHAPES = ZOO / "zoo-shapes"

needs_packages = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES), reason='pictures need pip install ".[image]"'
)


def decode_images(images: list[str]) -> list[bytes]:
    """PNG bytes of every picture, as a request's are decoded, in this process."""
    return [encode_png(decode_base64(text, number), number) for number, text in enumerate(images)]


def create_pipeline(store: Store, name: str, folder: Path, **parameters: Any) -> None:
    """Make an image model of a folder, as `serow create` with a FROM line does."""
    files = {path: store.blobs.add(file) for path, file in files_of(folder)[0].items()}
    for _ in store.create(Name.parse(name), Recipe(files=files, parameters=parameters)):
        pass


@contextmanager
def checker() -> Iterator[Any]:
    """The module that tells what a picture of zoo-shapes shows: `judge`, `parse_prompt`, `test_pairs`."""
    sys.path.insert(0, str(ZOO))
    try:
        yield importlib.import_module("verify")
    finally:
        sys.path.remove(str(ZOO))
        for name in ("verify", "shapes"):
            sys.modules.pop(name, None)
