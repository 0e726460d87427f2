"""Serow beside the bare pipeline: the same folder, the same pictures, interleaved A B A B.

    python bench/pictures.py FOLDER [--size 64 --steps 20 --rounds 15]

The bare side is a process that calls the diffusers pipeline and nothing else, its OpenMP threads set as Serow sets them; Serow
answers over HTTP, streaming every step and a PNG. Prints the medians, their ratio, and what the server's processes hold before,
with and after the model. The machine must be quiet: OpenMP's threads wait for each other at every operation.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import httpx
import psutil

from serow.engines.diffusers.worker import SPINCOUNT
from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.pipeline import files_of
from serow.store.store import Store

NAME = "bench"
PROMPT = "a red circle on a blue background, number {}"  # each another one: Serow remembers what it has encoded
GUIDANCE = 4.0
DEADLINE = 120  # seconds
MOST_OVERHEAD = 0.03
MOST_LEFT = 50 << 20  # bytes that may stay after the model is unloaded
Draw = Callable[[int], float]  # a seed; returns seconds


def serve_bare(folder: str, size: int, steps: int) -> None:
    """The bare side: read a seed from stdin, draw, write the seconds that the call took."""
    import torch
    from diffusers import DiffusionPipeline

    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    pipe = DiffusionPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True).to(device)
    pipe.set_progress_bar_config(disable=True)
    for line in sys.stdin:
        started = time.perf_counter()
        with torch.inference_mode():
            pipe(
                PROMPT.format(int(line)),
                width=size,
                height=size,
                num_inference_steps=steps,
                guidance_scale=GUIDANCE,
                generator=torch.Generator("cpu").manual_seed(int(line)),
            )
        print(time.perf_counter() - started, flush=True)


@contextmanager
def bare(folder: Path, size: int, steps: int) -> Iterator[Draw]:
    """Start the bare side; yields how to have it draw."""
    argv = [sys.executable, __file__, str(folder), "--bare", "--size", str(size), "--steps", str(steps)]
    env = {"GOMP_SPINCOUNT": SPINCOUNT, **os.environ}
    with subprocess.Popen(argv, env=env, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True) as process:
        yield lambda seed: _asked(process, seed)


def _asked(process: subprocess.Popen[str], seed: int) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{seed}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


@contextmanager
def server(folder: Path) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    """Start Serow with the folder as its one model; yields a client and the process."""
    with tempfile.TemporaryDirectory() as root:
        store = Store(Path(root))
        files = {path: store.blobs.add(file) for path, file in files_of(folder)[0].items()}
        for _ in store.create(Name.parse(NAME), Recipe(files=files, parameters={"guidance": GUIDANCE})):
            pass
        env = {**os.environ, "SEROW_HOST": "127.0.0.1:0", "SEROW_MODELS": root}
        with subprocess.Popen([sys.executable, "-m", "serow", "serve"], env=env, stdout=PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                url = process.stdout.readline().split()[-1]
                with httpx.Client(base_url=url, timeout=DEADLINE) as client:
                    yield client, psutil.Process(process.pid)
            finally:
                process.terminate()


def drawing(client: httpx.Client, size: int, steps: int) -> Draw:
    """How to have Serow draw: seconds from the request to its last byte."""

    def draw(seed: int) -> float:
        asked = {"prompt": PROMPT.format(seed), "width": size, "height": size, "steps": steps}
        body = {"model": NAME, **asked, "options": {"seed": seed}}
        started = time.perf_counter()
        lines = client.post("/api/generate", json=body).text.splitlines()
        seconds = time.perf_counter() - started
        assert len(lines) >= steps + 2  # one tells that it begins, and while the model loads one that it does
        assert "image" in json.loads(lines[-1])
        return seconds

    return draw


def held(process: psutil.Process) -> int:
    """Resident bytes of a process and all below it."""
    return sum(part.memory_info().rss for part in (process, *process.children(recursive=True)))


def measure(folder: Path, size: int, steps: int, rounds: int) -> dict[str, Any]:
    """Draw in turns; times in seconds, memory in MiB."""
    with server(folder) as (client, process), bare(folder, size, steps) as draw_bare:
        before = held(process)
        draw = drawing(client, size, steps)
        for warm in range(rounds, rounds + 2):
            draw_bare(warm)
            draw(warm)
        times = [(draw_bare(seed), draw(seed)) for seed in range(rounds)]
        loaded = held(process)
        client.post("/api/generate", json={"model": NAME, "keep_alive": 0})
        after = held(process)
    alone, served = (statistics.median(side) for side in zip(*times, strict=True))
    overhead = statistics.median(ours / theirs for theirs, ours in times) - 1
    memory = {"before": before >> 20, "loaded": loaded >> 20, "after": after >> 20}
    is_good = overhead <= MOST_OVERHEAD and after - before <= MOST_LEFT
    return {
        "bare": round(alone, 4),
        "serow": round(served, 4),
        "overhead": round(overhead, 4),
        "memory": memory,
        "good": is_good,
    }


def main() -> int:
    """Print the measurement; exit status 1 when it misses what it must reach."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        serve_bare(str(given.folder), given.size, given.steps)
        return 0
    found = measure(given.folder, given.size, given.steps, given.rounds)
    print(json.dumps(found, indent=2))
    return 0 if found["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
