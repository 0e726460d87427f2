"""Serow beside a bare llama-server on one card: cold load, and decoding at 1, 8 and 64 streams.

`python -m bench.on_device LLAMA_SERVER MODEL.gguf` prints a line for each, with the ratio that is asked for. Nothing is built.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from serow.store.name import Name
from serow.store.recipe import Recipe
from serow.store.store import Store
from serow.store.weights import describe

STREAMS = tuple(int(number) for number in os.environ.get("STREAMS", "1 8 64").split())
NUM_PREDICT = int(os.environ.get("NUM_PREDICT", "128"))
NUM_CTX = 1024
PROMPT = "The history of the city begins with"
DEADLINE = 600.0  # seconds


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(argv: list[str], environ: Mapping[str, str]) -> Iterator[None]:
    """A server while the context lasts."""
    process = subprocess.Popen(argv, env=os.environ | environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


async def answers(session: aiohttp.ClientSession, url: str) -> None:
    """Return once a server says that it can work."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)


async def tokens(session: aiohttp.ClientSession, url: str, body: dict[str, Any], streams: int) -> float:
    """Tokens a second of so many answers at once."""
    began = time.perf_counter()

    async def one() -> int:
        async with session.post(url, json=body) as response:
            told = await response.json()
            return int(told.get("eval_count") or told["timings"]["predicted_n"])

    counts = await asyncio.gather(*(one() for _ in range(streams)))
    if min(counts) < NUM_PREDICT:
        sys.exit(f"an answer ended after {min(counts)} of {NUM_PREDICT} tokens: nothing is compared")
    return sum(counts) / (time.perf_counter() - began)


async def bare(executable: str, model: str) -> dict[str, float]:
    """The engine alone, with the flags that serve as many streams."""
    base = f"http://127.0.0.1:{(port := free_port())}"
    size = ["--ctx-size", str(NUM_CTX * max(STREAMS)), "--parallel", str(max(STREAMS)), "--no-kv-unified"]
    argv = [
        executable,
        "--model",
        model,
        "--port",
        str(port),
        "--n-gpu-layers",
        "all",
        *size,
        "--no-webui",
        "--offline",
        "--fit",
        "off",
    ]
    body = {"prompt": PROMPT, "n_predict": NUM_PREDICT, "temperature": 0, "ignore_eos": True, "cache_prompt": True}
    return await measured(argv, {}, base + "/health", base + "/completion", body)


def put(model: str, store: str) -> None:
    """Make the model of the file."""
    kept = Store(Path(store))
    digest, _ = kept.blobs.put(Path(model).read_bytes())
    for _ in kept.create(Name.parse("bench"), Recipe(files={"bench.gguf": digest})):
        continue


async def ours(executable: str, model: str, store: str) -> dict[str, float]:
    """The same engine behind Serow."""
    put(model, store)
    host = f"127.0.0.1:{free_port()}"
    settings = {
        "SEROW_HOST": host,
        "SEROW_MODELS": store,
        "SEROW_LLAMA_SERVER": executable,
        "SEROW_NUM_PARALLEL": str(max(STREAMS)),
    }
    endless = [[token, -1e9] for token in ends_of(model)]
    options = {"num_predict": NUM_PREDICT, "temperature": 0, "num_ctx": NUM_CTX, "logit_bias": endless}
    body = {"model": "bench", "prompt": PROMPT, "raw": True, "stream": False, "options": options}
    argv = [sys.executable, "-m", "serow", "serve"]
    return await measured(argv, settings, f"http://{host}/api/version", f"http://{host}/api/generate", body)


def ends_of(model: str) -> list[int]:
    """The tokens that may end a text, which must not come: both sides write as much. An engine takes several for an end."""
    return sorted(describe(Path(model)).control_tokens)


async def measured(argv: list[str], environ: Mapping[str, str], ready: str, url: str, body: dict[str, Any]) -> dict[str, float]:
    """Seconds from the start to the first answer, then tokens a second by streams."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE)) as session:
        began = time.perf_counter()
        with running(argv, environ):
            await answers(session, ready)
            if ready.endswith("/version"):  # it loads when it is asked, and was started long before
                began = time.perf_counter()
            await tokens(session, url, body, 1)
            found = {"cold": time.perf_counter() - began}
            for streams in STREAMS:
                found[str(streams)] = await tokens(session, url, body, streams)
            return found


async def main(executable: str, model: str) -> None:
    """Print both, and the ratios."""
    with tempfile.TemporaryDirectory() as store:
        alone, behind = await bare(executable, model), await ours(executable, model, store)
    print(f"cold load and first answer: {alone['cold']:.2f} s alone, {behind['cold']:.2f} s behind Serow")
    print(f"  ratio {behind['cold'] / alone['cold']:.2f}, at most 1.15 asked")
    for streams in map(str, STREAMS):
        print(f"{streams} streams: {alone[streams]:.0f} tokens/s alone, {behind[streams]:.0f} behind Serow")
        print(f"  ratio {behind[streams] / alone[streams]:.3f}, at least 0.97 asked")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
