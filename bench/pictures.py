"""Serow beside the bare pipeline: the same folder, the same pictures, interleaved A B B A.

    python -m bench.pictures FOLDER [--size 64 --steps 12 20 --rounds 21 --starts 3]

The bare side is a process that calls the diffusers pipeline and nothing else, its OpenMP threads set as Serow sets them; Serow
answers over HTTP, streaming every step and a PNG. A process draws a sixth faster or slower than another one of its kind, for as
long as it lives, so both sides are started anew several times. Prints the medians, the median of the pairs' ratios with the
quartiles, CPU time of all processes of each side, which is steadier, and what the server's hold before, with and after the
model. The machine must be quiet: OpenMP's threads wait for each other at every operation.
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
from dataclasses import dataclass, field
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
Draw = Callable[[int, int], float]  # a seed and steps; returns seconds


@dataclass
class Found:
    """Of one number of steps: seconds of each pair, the bare side's first, and CPU time of either side."""

    pairs: list[tuple[float, float]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def told(self) -> dict[str, Any]:
        """Medians in seconds, CPU time in seconds a picture, and how much more Serow's is."""
        low, middle, high = statistics.quantiles([ours / theirs - 1 for theirs, ours in self.pairs], n=4)
        alone, served = (statistics.median(side) for side in zip(*self.pairs, strict=True))
        cpu = [each / len(self.pairs) for each in self.cpu]
        return {
            "bare": round(alone, 4),
            "serow": round(served, 4),
            "overhead": round(middle, 4),
            "quartiles": [round(low, 4), round(high, 4)],
            "cpu": {"bare": round(cpu[0], 4), "serow": round(cpu[1], 4), "overhead": round(cpu[1] / cpu[0] - 1, 4)},
            "good": middle <= MOST_OVERHEAD,
        }


def serve_bare(folder: str, size: int) -> None:
    """The bare side: read a seed and steps from stdin, draw, write the seconds that the call took."""
    import torch
    from diffusers import DiffusionPipeline

    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    pipe = DiffusionPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True).to(device)
    pipe.set_progress_bar_config(disable=True)
    for line in sys.stdin:
        seed, steps = map(int, line.split())
        started = time.perf_counter()
        with torch.inference_mode():
            pipe(
                PROMPT.format(seed),
                width=size,
                height=size,
                num_inference_steps=steps,
                guidance_scale=GUIDANCE,
                generator=torch.Generator("cpu").manual_seed(seed),
            )
        print(time.perf_counter() - started, flush=True)


@contextmanager
def bare(folder: Path, size: int) -> Iterator[tuple[Draw, psutil.Process]]:
    """Start the bare side; yields how to have it draw, and the process."""
    argv = [sys.executable, __file__, str(folder), "--bare", "--size", str(size)]
    env = {"GOMP_SPINCOUNT": SPINCOUNT, **os.environ}
    with subprocess.Popen(argv, env=env, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True) as process:
        yield lambda seed, steps: _asked(process, seed, steps), psutil.Process(process.pid)


def _asked(process: subprocess.Popen[str], seed: int, steps: int) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{seed} {steps}\n")
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


def drawing(client: httpx.Client, size: int) -> Draw:
    """How to have Serow draw: seconds from the request to its last byte."""

    def draw(seed: int, steps: int) -> float:
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


def spent(process: psutil.Process) -> float:
    """Seconds of CPU time of a process and all below it."""
    return sum(sum(part.cpu_times()[:2]) for part in (process, *process.children(recursive=True)))


def compare(sides: list[tuple[Draw, psutil.Process]], seeds: range, steps: int, found: Found) -> None:
    """Draw every seed on both sides, whose turn changes; the bare one is the first of them."""
    for seed in seeds:
        times = [0.0, 0.0]
        for number in (0, 1) if seed % 2 else (1, 0):
            draw, process = sides[number]
            before = spent(process)
            times[number] = draw(seed, steps)
            found.cpu[number] += spent(process) - before
        found.pairs.append((times[0], times[1]))


def measure(folder: Path, size: int, steps: list[int], rounds: int, starts: int) -> dict[str, Any]:
    """Draw in turns; times in seconds, memory in MiB."""
    found = {each: Found() for each in steps}
    with server(folder) as (client, process):
        before = held(process)
        for start in range(starts):
            with bare(folder, size) as one:
                sides = [one, (drawing(client, size), process)]
                for warm in range(3):
                    compare(sides, range(-1 - warm, -warm), max(steps), Found())
                for each in steps:
                    compare(sides, range(start * rounds // starts, (start + 1) * rounds // starts), each, found[each])
            loaded = held(process)
            client.post("/api/generate", json={"model": NAME, "keep_alive": 0})
        after = held(process)
    told = {f"{each} steps": pairs.told() for each, pairs in found.items()}
    memory = {"before": before >> 20, "loaded": loaded >> 20, "after": after >> 20, "good": after - before <= MOST_LEFT}
    return {**told, "memory": memory}


def main() -> int:
    """Print the measurement; exit status 1 when it misses what it must reach."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--steps", type=int, nargs="+", default=[12, 20])
    parser.add_argument("--rounds", type=int, default=21, help="pairs of each number of steps")
    parser.add_argument("--starts", type=int, default=3, help="how often both sides begin anew")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        serve_bare(str(given.folder), given.size)
        return 0
    found = measure(given.folder, given.size, given.steps, given.rounds, given.starts)
    print(json.dumps(found, indent=2))
    return 0 if all(part["good"] for part in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
