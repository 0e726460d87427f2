"""Tiny pipelines with random weights, made once, and a process that draws them."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from serow.engines.base import ImageRequest
from tests.pictures import SHAPES

HERE = Path(__file__).parent
DEADLINE = 600.0  # seconds
SMALL = ImageRequest(prompt="a {cat}", width=32, height=32, steps=2, seeds=(1,), guidance=3.0)
Run = Callable[..., str]
Drawn = Callable[..., list[str]]


def alone(script: str, *args: object) -> str:
    """What a script prints in a process of its own."""
    argv = [sys.executable, str(HERE / script), *map(str, args)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[2])}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """What a script beside this file prints. torch is imported once for all of them, and in no process that tests run in."""
    if sys.platform != "linux":  # a fork of what has threads of the system's own may not go on
        yield alone
        return
    out, err = (tmp_path_factory.mktemp("programs") / name for name in ("out", "err"))
    argv = [sys.executable, "-m", "tests.engines.diffusers.programs"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, cwd=HERE.parents[2], env=environment, text=True, **pipes) as programs:
        assert programs.stdout is not None
        told = programs.stdout

        def ended(script: str, *args: object) -> str:
            for file in (out, err):
                file.write_bytes(b"")
            print(json.dumps([[str(HERE / script), *map(str, args)], str(out), str(err)]), file=programs.stdin, flush=True)
            assert select.select([told], [], [], DEADLINE)[0], f"{script} does not end"
            assert told.readline() == "0\n", err.read_text()[-2000:]
            return out.read_text()

        try:
            yield ended
        finally:
            programs.kill()


@pytest.fixture(scope="session")
def folders(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny pipelines with random weights, of the kinds that people use."""
    out = tmp_path_factory.mktemp("folders")
    run("folders.py", SHAPES / "tokenizer", out)
    return out


@pytest.fixture(scope="session")
def drawn(run: Run) -> Drawn:
    """The digests of the pictures that folders draw, or why there is none."""

    def draw(*folders: Path | str, request: ImageRequest = SMALL, keep: Path | None = None) -> Any:
        kept = () if keep is None else ("--keep", keep)
        return json.loads(run("draw.py", *kept, json.dumps(asdict(request)), *folders).splitlines()[-1])

    return draw
