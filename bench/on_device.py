"""Serow beside a bare llama-server on one card: cold load, and decoding at 1, 8 and 64 streams.

`python -m bench.on_device LLAMA_SERVER MODEL.gguf` runs one after the other, ROUNDS times, and says what it saw as it goes: of
a run that is cut short what was measured is known. The first of them warms up the driver and is not counted. At the end
stands a line for each figure, the medians, with the ratio that is asked for. Nothing is built.
"""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from serow.devices.device import Listed
from serow.devices.listing import parse_listing
from serow.store.name import Name
from serow.store.recipe import Recipe
from serow.store.store import Store
from serow.store.weights import describe

ROUNDS = int(os.environ.get("ROUNDS", "3"))
STREAMS = tuple(int(number) for number in os.environ.get("STREAMS", "1 8 64").split())
NUM_PREDICT = int(os.environ.get("NUM_PREDICT", "128"))
NUM_CTX = 1024
PROMPT = "The history of the city begins with"
DEADLINE = 120.0  # seconds for a server to be there, and for each request: who has a card for minutes has to hear of it


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
    return await measured(
        argv, settings, f"http://{host}/api/version", f"http://{host}/api/generate", body, f"http://{host}/api/ps?verbose=1"
    )


def ends_of(model: str) -> list[int]:
    """The tokens that may end a text, which must not come: both sides write as much. An engine takes several for an end."""
    return sorted(describe(Path(model)).control_tokens)


async def measured(
    argv: list[str], environ: Mapping[str, str], ready: str, url: str, body: dict[str, Any], ps: str = ""
) -> dict[str, float]:
    """Seconds from the start to the first answer, then tokens a second by streams. `ps` tells whether it is on a card."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE)) as session:
        began = time.perf_counter()
        with running(argv, environ):
            await answers(session, ready)
            if ps:  # it loads when it is asked, and was started long before
                began = time.perf_counter()
            await tokens(session, url, body, 1)
            found = {"cold": time.perf_counter() - began}
            if ps:
                await require_a_card(session, ps, environ["SEROW_LLAMA_SERVER"])
            for streams in STREAMS:
                found[str(streams)] = await tokens(session, url, body, streams)
            return found


async def require_a_card(session: aiohttp.ClientSession, ps: str, executable: str) -> None:
    """Say where the model lies; end here where there is a card and it is not there as a whole: the bare engine is."""
    async with session.get(ps) as response:
        (model,) = (await response.json())["models"]
    there = await asyncio.to_thread(devices_of, executable)
    told = {name: model[name] for name in ("devices", "num_gpu", "num_layers", "size_vram", "flash_attention", "num_batch")}
    say(f"  behind Serow: {told}")
    if there and model["num_gpu"] < model["num_layers"]:
        sys.exit("behind Serow the model is not on the card as a whole: nothing is compared")


def devices_of(executable: str) -> tuple[Listed, ...]:
    """What it could use."""
    listed = subprocess.run([executable, "--list-devices"], capture_output=True, text=True, timeout=DEADLINE, check=False)
    return parse_listing(listed.stdout)


def say(text: str) -> None:
    """A line that is there also when the run is cut short."""
    print(text, flush=True)


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Of each figure; the first run has warmed up."""
    counted = runs[1:] or runs
    return {name: statistics.median(run[name] for run in counted) for name in counted[0]}


async def main(executable: str, model: str) -> None:
    """Print both, and the ratios."""
    began = time.perf_counter()
    both: tuple[list[dict[str, float]], list[dict[str, float]]] = [], []
    with tempfile.TemporaryDirectory() as store:
        put(model, store)
        for number in range(ROUNDS + 1):
            for runs, name in zip(both, ("alone", "behind Serow"), strict=True):
                runs.append(await (bare(executable, model) if name == "alone" else ours(executable, model, store)))
                figures = ", ".join(f"{key} {value:.2f}" for key, value in runs[-1].items())
                say(f"round {number}, {name}: {figures} (after {time.perf_counter() - began:.0f} s)")
    alone, behind = map(medians, both)
    print(f"cold load and first answer: {alone['cold']:.2f} s alone, {behind['cold']:.2f} s behind Serow")
    print(f"  ratio {behind['cold'] / alone['cold']:.2f}, at most 1.15 asked")
    for streams in map(str, STREAMS):
        print(f"{streams} streams: {alone[streams]:.0f} tokens/s alone, {behind[streams]:.0f} behind Serow")
        print(f"  ratio {behind[streams] / alone[streams]:.3f}, at least 0.97 asked")


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:3]))
    except KeyboardInterrupt:
        sys.exit("the time is over: what was measured until then stands above")
