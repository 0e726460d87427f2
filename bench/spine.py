"""Serow beside the bare engine: same engine, same flags, same model, same prompts, interleaved A B A B.

    python bench/spine.py                     # SmolLM2 through the wheel's engine
    python bench/spine.py --model x.gguf --rounds 9
    SEROW_LLAMA_SERVER=/path/llama-server python bench/spine.py

Both sides get raw prompts over HTTP from the same client; the bare engine on its unix socket, Serow on loopback TCP.
Medians of all rounds, and the ratio Serow / bare engine of the medians.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import aiohttp
import psutil

from serow import settings as serow_settings
from serow.engines.base import CompletionRequest, LoadRequest
from serow.engines.home import forced
from serow.engines.kinds import WHEEL
from serow.engines.llamacpp.request import completion_body
from serow.engines.llamacpp.runner import LlamaRunner
from serow.options import LoadOptions, resolve_options
from serow.store.create import Recipe
from serow.store.model import Model
from serow.store.name import Name
from serow.store.store import Store

NAME = "bench"
NUM_CTX, NUM_PARALLEL = 4096, 8
FIRST_TOKENS, STREAM_TOKENS, MANY_TOKENS = 4, 128, 64
DEADLINE = 120  # seconds, for every wait
_numbers: Iterator[int] = count(1)


@dataclass(frozen=True)
class Timing:
    """One streamed answer: seconds to its first token, tokens, seconds from first to last."""

    first: float
    tokens: int
    rest: float


@dataclass(frozen=True)
class Side:
    """A server under test: how to ask it, how to load the model anew."""

    name: str
    ask: Callable[[str, int], Awaitable[Timing]]
    cold: Callable[[], Awaitable[float]]


def prompt(numbers: int = 18) -> str:
    """A count that neither side has seen, of about 110 tokens; models go on counting, so no answer ends early."""
    first = 1000 + 100 * next(_numbers)
    return ", ".join(str(first + number) for number in range(numbers)) + ","


_TEXT = re.compile(rb'"(response|content)": ?"[^"]')  # a line that brings text; the engine reports progress before
OPTIONS = {"temperature": 0.0, "seed": 1}


async def _timed(response: aiohttp.ClientResponse, tokens_of: Callable[[bytes], int | None]) -> Timing:
    """Read a stream; `tokens_of` says of a line the tokens of the whole answer when it is the last one."""
    started, first, tokens = time.perf_counter(), 0.0, 0
    async for line in response.content:
        if _TEXT.search(line):
            first = first or time.perf_counter() - started
        tokens = tokens_of(line) or tokens
    return Timing(first, tokens, time.perf_counter() - started - first)


def _serow_tokens(line: bytes) -> int | None:
    return json.loads(line)["eval_count"] if b'"done":true' in line else None


def _engine_tokens(line: bytes) -> int | None:
    return json.loads(line[6:])["tokens_predicted"] if b'"stop":true' in line else None


async def _ask_serow(session: aiohttp.ClientSession, text: str, num_predict: int) -> Timing:
    body = {"model": NAME, "prompt": text, "raw": True, "options": {**OPTIONS, "num_predict": num_predict}}
    started = time.perf_counter()
    async with session.post("/api/generate", json=body) as response:
        waited = time.perf_counter() - started
        timing = await _timed(response, _serow_tokens)
    return Timing(waited + timing.first, timing.tokens, timing.rest)


async def _ask_engine(session: aiohttp.ClientSession, text: str, num_predict: int) -> Timing:
    options = resolve_options({}, OPTIONS)
    request = CompletionRequest(prompt=text, options=options, num_predict=num_predict)
    body = completion_body(request, NUM_CTX, (forced(serow_settings.load()) or WHEEL).kind)
    started = time.perf_counter()
    async with session.post("/completion", json=body) as response:
        waited = time.perf_counter() - started
        timing = await _timed(response, _engine_tokens)
    return Timing(waited + timing.first, timing.tokens, timing.rest)


@asynccontextmanager
async def serow_server(**environ: str) -> AsyncIterator[tuple[aiohttp.ClientSession, psutil.Process, float]]:
    """`serow serve` on a free port; yields a session, its process, and seconds to the first answer."""
    env = {**os.environ, "SEROW_HOST": "127.0.0.1:0", "SEROW_ENGINE_CHECK": "0", **environ}
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "serow", "serve", env=env, stdout=PIPE, stderr=DEVNULL)
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().split()[-1]
    try:
        connector, timeout = aiohttp.TCPConnector(force_close=True), aiohttp.ClientTimeout(DEADLINE)
        async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
            async with session.get("/api/version") as response:
                await response.read()
            yield session, psutil.Process(process.pid), time.perf_counter() - started
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), DEADLINE)


@asynccontextmanager
async def bare_engine(model: Model) -> AsyncIterator[aiohttp.ClientSession]:
    """The engine as Serow starts it, without Serow in front."""
    found = serow_settings.load()
    request = LoadRequest(model, LoadOptions(num_ctx=NUM_CTX), NUM_PARALLEL, forced(found) or WHEEL)
    runner = LlamaRunner(request, found)
    await runner.load()
    try:
        yield runner._child.session
    finally:
        await runner.close()


async def _many(ask: Callable[[str, int], Awaitable[Timing]]) -> float:
    """Tokens a second of eight streams together."""
    started = time.perf_counter()
    timings = await asyncio.gather(*(ask(prompt(), MANY_TOKENS) for _ in range(NUM_PARALLEL)))
    return sum(timing.tokens for timing in timings) / (time.perf_counter() - started)


async def _round(side: Side) -> dict[str, float]:
    text = prompt()
    new = await side.ask(text, FIRST_TOKENS)
    cached = await side.ask(text, FIRST_TOKENS)
    stream = await side.ask(prompt(), STREAM_TOKENS)
    return {
        "new prompt to first token, ms": new.first * 1e3,
        "cached prompt to first token, ms": cached.first * 1e3,
        "decode of one stream, tokens/s": (stream.tokens - 1) / stream.rest,
        "eight streams, tokens/s": await _many(side.ask),
        "cold load to first token, ms": await side.cold() * 1e3,
    }


async def measure(weights: Path, rounds: int) -> list[str]:
    """Run both sides and return the lines of a Markdown table."""
    with tempfile.TemporaryDirectory() as root:
        store = Store(Path(root))
        create(store, weights)
        model = store.resolve(NAME)
        server = serow_server(SEROW_MODELS=str(store.root), SEROW_NUM_PARALLEL=str(NUM_PARALLEL))
        async with server as (session, process, start), bare_engine(model) as engine:
            sides = _sides(session, engine, model)
            for side in sides:
                await side.ask(prompt(), 8)
            results: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
            for number in range(rounds):
                for side in sides if number % 2 == 0 else sides[::-1]:
                    results[side.name].append(await _round(side))
            memory = process.memory_info().rss
    return [*_table(results), f"| server start to first answer, ms | {start * 1e3:.0f} | | |", _memory_line(memory)]


def _sides(session: aiohttp.ClientSession, engine: aiohttp.ClientSession, model: Model) -> list[Side]:
    async def ask_serow(text: str, num_predict: int) -> Timing:
        return await _ask_serow(session, text, num_predict)

    async def ask_engine(text: str, num_predict: int) -> Timing:
        return await _ask_engine(engine, text, num_predict)

    async def cold_serow() -> float:
        async with session.post("/api/generate", json={"model": NAME, "keep_alive": 0}) as response:
            await response.read()
        return (await ask_serow(prompt(2), FIRST_TOKENS)).first

    async def cold_engine() -> float:
        started = time.perf_counter()
        async with bare_engine(model) as fresh:
            loaded = time.perf_counter() - started
            return loaded + (await _ask_engine(fresh, prompt(2), FIRST_TOKENS)).first

    return [Side("Serow", ask_serow, cold_serow), Side("bare engine", ask_engine, cold_engine)]


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def _table(results: dict[str, list[dict[str, float]]]) -> list[str]:
    serow, bare = (medians(rows) for rows in results.values())
    lines = ["| median | Serow | bare engine | ratio |", "|---|---|---|---|"]
    return lines + [f"| {key} | {serow[key]:.1f} | {bare[key]:.1f} | {serow[key] / bare[key]:.3f} |" for key in serow]


def _memory_line(memory: int) -> str:
    return f"| resident memory of the server, without its engine, MB | {memory / 1e6:.0f} | | |"


def create(store: Store, weights: Path) -> None:
    """A model made from the GGUF alone."""
    digest, _ = store.blobs.put(weights.read_bytes())
    for _ in store.create(Name.parse(NAME), Recipe(files={"model.gguf": digest})):
        pass


def machine() -> str:
    """What the figures hold for."""
    return f"{platform.processor() or platform.machine()}, {psutil.cpu_count(logical=False)} cores, {platform.system()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a GGUF (default: smollm2:135m of the store)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, each with both sides (default: 7)")
    args = parser.parse_args()
    weights = args.model or Store(serow_settings.load().models).resolve("smollm2:135m").weights
    print(f"{machine()}, {args.rounds} rounds\n")
    print("\n".join(asyncio.run(measure(weights, args.rounds))))


if __name__ == "__main__":
    main()
