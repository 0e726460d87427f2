"""Engines beside other busy processes: what is left of their speed, and what they leave of the CPU.

    serow engine build llama.cpp && serow engine build ik && serow engine check ik qwen2.5-coder:0.5b
    python -m bench.neighbours qwen2.5-coder:0.5b --rounds 3

Each side is a server of its own with the model loaded. Beside no busy process, one, and as many as there are cores they are
asked in turn, in a new order every round, one stream and eight, each for some seconds. Medians of tokens a second; in brackets
how much that is of what the same side does alone, and the share of a core that each busy process got meanwhile.

The first side is llama.cpp as it comes: one slot, threads that wait busily for one another.
"""

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import psutil

from bench.engines import OPTIONS, Side, peer, server
from bench.spine import machine, prompt

SECONDS = 8.0  # of a measurement
_ENDLESS = 2000  # tokens; nobody gets so far
_SHORT = 4  # numbers of a prompt: it is decoding that is measured
STREAMS = (1, 8)
HOGS = (0, 1, psutil.cpu_count(logical=False) or 1)
PATIENCE = 120.0  # seconds for a first token


@dataclass(frozen=True)
class Figure:
    """One measurement: tokens a second, and the share of a core that a busy process got."""

    speed: float
    left: float


def variants() -> dict[str, dict[str, str]]:
    """The sides, what Serow chooses by itself last."""
    kept = {"SEROW_SLOT_CACHE": "0"}
    return peer() | {"wheel": {"SEROW_ENGINE": "wheel", **kept}, "Serow's choice": kept}


@contextmanager
def hogs(number: int) -> Iterator[list[psutil.Process]]:
    """Busy processes, each in a session of its own as a user's other programs are."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(number)]
    try:
        yield [psutil.Process(each.pid) for each in started]
    finally:
        for each in started:
            each.kill()
            each.wait()


async def measure(side: Side, num_streams: int, busy: Sequence[psutil.Process]) -> Figure:
    """Streams for some seconds, counted from when as many have begun as there are slots."""
    counts, begun = [0] * num_streams, asyncio.Semaphore(0)
    num_slots = await slots(side)
    tasks = [asyncio.create_task(_count(side, counts, number, begun)) for number in range(num_streams)]
    try:
        async with asyncio.timeout(PATIENCE):
            for _ in range(min(num_streams, num_slots)):
                await begun.acquire()
        before, began, cpu = sum(counts), time.perf_counter(), _cpu(busy)
        await asyncio.sleep(SECONDS)
        seconds = time.perf_counter() - began
        left = (_cpu(busy) - cpu) / seconds / len(busy) if busy else 0.0
        return Figure((sum(counts) - before) / seconds, left)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def slots(side: Side) -> int:
    """How many streams the engine takes at once."""
    async with side.session.get("/api/ps?verbose=1") as response:
        return int((await response.json())["models"][0]["num_parallel"])


async def _count(side: Side, counts: list[int], number: int, begun: asyncio.Semaphore) -> None:
    """One stream after another, tokens counted as they come."""
    options = {**OPTIONS, "num_predict": _ENDLESS}
    while True:
        body = {"model": side.model, "prompt": prompt(_SHORT), "raw": True, "options": options}
        async with side.session.post("/api/generate", json=body) as response:
            response.raise_for_status()
            async for _ in response.content:
                if not counts[number]:
                    begun.release()
                counts[number] += 1


def _cpu(processes: Sequence[psutil.Process]) -> float:
    return float(sum(sum(each.cpu_times()[:2]) for each in processes))


@asynccontextmanager
async def loaded(model: str) -> AsyncIterator[list[Side]]:
    """Every side, with the model in memory."""
    async with AsyncExitStack() as stack:
        sides = [await stack.enter_async_context(server(name, model, env)) for name, env in variants().items()]
        for side in sides:
            await side.ask(prompt(), 4)
            print(f"{side.name}: {await side.running()}", file=sys.stderr)
        yield sides


Key = tuple[str, int, int]  # side, streams, busy processes


async def run(model: str, rounds: int) -> dict[Key, list[Figure]]:
    """All figures."""
    figures: dict[Key, list[Figure]] = defaultdict(list)
    async with loaded(model) as sides:
        for number in range(rounds):
            for num_hogs in HOGS:
                with hogs(num_hogs) as busy:
                    for side in random.sample(sides, len(sides)):
                        for streams in STREAMS:
                            figures[side.name, streams, num_hogs].append(await measure(side, streams, busy))
            load_average = os.getloadavg()[0]
            print(f"round {number + 1} of {rounds}, load average {load_average:.1f}", file=sys.stderr)
    return figures


def table(figures: dict[Key, list[Figure]]) -> Iterator[str]:
    """Markdown: a row for each number of streams and busy processes."""
    names = list(dict.fromkeys(name for name, _, _ in figures))
    yield "| streams, beside | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for streams in STREAMS:
        for num_hogs in HOGS:
            cells = [_cell(figures, (name, streams, num_hogs)) for name in names]
            beside = f"{num_hogs} busy" if num_hogs else "nobody"
            yield f"| {streams}, {beside} | " + " | ".join(cells) + " |"


def _cell(figures: dict[Key, list[Figure]], key: Key) -> str:
    name, streams, num_hogs = key
    speed, alone = (statistics.median(each.speed for each in figures[name, streams, number]) for number in (num_hogs, 0))
    if not num_hogs:
        return f"{speed:.1f}"
    left = statistics.median(each.left for each in figures[key])
    return f"{speed:.1f} ({speed / alone if alone else 0:.2f}; leaves {left:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model of the store")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, each with every side (default: 3)")
    args = parser.parse_args()
    figures = asyncio.run(run(args.model, args.rounds))
    print(f"{args.model} on {machine()}, {args.rounds} rounds, tokens/s\n")
    print("\n".join(table(figures)))


if __name__ == "__main__":
    main()
