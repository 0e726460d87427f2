"""Tiny pipelines with random weights, made once, and a child that draws them."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from serow.engines.base import ImageRequest
from tests.pictures import SHAPES

HERE = Path(__file__).parent
SMALL = ImageRequest(prompt="a {cat}", width=32, height=32, steps=2, seeds=(1,), guidance=3.0)
Drawn = Callable[..., list[str]]


def run(script: str, *args: object) -> str:
    """What a script beside this file prints; torch is imported there."""
    argv = [sys.executable, str(HERE / script), *map(str, args)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny pipelines with random weights, of the kinds that people use."""
    out = tmp_path_factory.mktemp("folders")
    run("folders.py", SHAPES / "tokenizer", out)
    return out


@pytest.fixture(scope="session")
def drawn() -> Drawn:
    """The digests of the pictures that folders draw, or why there is none."""

    def draw(*folders: Path | str, request: ImageRequest = SMALL, keep: Path | None = None) -> Any:
        kept = () if keep is None else ("--keep", keep)
        return json.loads(run("draw.py", *kept, json.dumps(asdict(request)), *folders).splitlines()[-1])

    return draw
