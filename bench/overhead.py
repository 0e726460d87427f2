"""What Serow's adapter costs: a vLLM asked by itself and through Serow, in turn, greedy, with the same token ids.

    python -m bench.overhead .vllm                     the environment of scripts/try_vllm.sh
    python -m bench.overhead .vllm --engine http://…   one that runs already: its --served-model-name is smollm2

Decode is what a stream says between its first and its last token. Medians of the rounds; both texts have to be the same.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
from tokenizers import Tokenizer

from bench.ceiling import serowing
from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.remote import FILES
from serow.store.store import Store
from tests.compat.vllm.replicas import MODEL, replica

PROMPTS = tuple(f"{count} things that everybody should know about the sea:" for count in range(3, 11))
NUM_PREDICT = 40
END = 2  # SmolLM2's token of the end, which must not come


@dataclass(frozen=True)
class Answer:
    """What a stream came to: its text, and tokens a second between its first and its last."""

    text: str
    rate: float


Ask = Callable[[str], Awaitable[Answer]]


async def _read(lines: AsyncIterator[str]) -> Answer:
    """Pieces of a text as they come; one piece may be several tokens, or a part of one."""
    first, text = 0.0, ""
    async for piece in lines:
        first = first or time.perf_counter()
        text += piece
    return Answer(text, (NUM_PREDICT - 1) / (time.perf_counter() - first))


def bare(session: aiohttp.ClientSession, tokenizer: Tokenizer) -> Ask:
    """The engine by itself."""

    async def ask(prompt: str) -> Answer:
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        body = {"model": MODEL, "prompt": ids, "max_tokens": NUM_PREDICT, "temperature": 0, "stream": True}
        async with session.post("/v1/completions", json={**body, "logit_bias": {str(END): -100}}) as answer:
            assert answer.status == 200, await answer.text()
            return await _read(_events(answer))

    return ask


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[str]:
    async for line in answer.content:
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])["choices"][0]["text"]


def through_serow(session: aiohttp.ClientSession) -> Ask:
    """The same through Serow."""

    async def ask(prompt: str) -> Answer:
        options = {"num_predict": NUM_PREDICT, "temperature": 0, "logit_bias": {str(END): -100}}
        body = {"model": "bench", "prompt": prompt, "raw": True, "options": options}
        async with session.post("/api/generate", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await _read(_records(answer))

    return ask


async def _records(answer: aiohttp.ClientResponse) -> AsyncIterator[str]:
    async for line in answer.content:
        record = json.loads(line)
        assert "error" not in record, record
        if not record["done"]:
            yield record["response"]


async def measure(ways: dict[str, Ask], num_streams: int, rounds: int) -> dict[str, float]:
    """Tokens a second of each way, all streams together: medians of rounds in turn."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        texts = set()
        for name in sorted(ways, reverse=bool(number % 2)):
            answers = await asyncio.gather(*map(ways[name], PROMPTS[:num_streams]))
            texts.add(tuple(answer.text for answer in answers))
            found[name].append(sum(answer.rate for answer in answers))
        if len(texts) > 1:
            print(f"round {number}, {num_streams} streams: the texts differ", flush=True)
    return {name: statistics.median(rates) for name, rates in found.items()}


@asynccontextmanager
async def _engine(folder: Path, url: str) -> AsyncIterator[str]:
    if url:
        yield url
        return
    async with replica(folder) as engine:
        yield engine.url


def _store(root: Path, folder: Path, url: str) -> Store:
    store = Store(root / "models")
    files = {name: store.blobs.put((folder / name).read_bytes())[0] for name in FILES if (folder / name).is_file()}
    recipe = Recipe(files=files, remote_host=url.replace("http", "vllm"), remote_model=MODEL)
    for _ in store.create(Name.parse("bench"), recipe):
        pass
    return store


async def compare(folder: Path, url: str, rounds: int, streams: list[int]) -> None:
    """A row for each number of streams."""
    tokenizer = Tokenizer.from_file(str(folder / "smollm2" / "tokenizer.json"))
    print("| streams | vLLM, tokens/s | through Serow | part | Serow's CPU, µs a token |\n|---|---|---|---|---|")
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(_engine(folder, url))
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address, processes = await stack.enter_async_context(serowing(_store(root, folder / "smollm2", url), 1))
        engine, serow = [await stack.enter_async_context(aiohttp.ClientSession(each)) for each in (url, address)]
        for num_streams in streams:
            ways = {"bare": bare(engine, tokenizer), "serow": through_serow(serow)}
            await measure(ways, num_streams, 1)  # to warm up
            before = _cpu(processes)
            rates = await measure(ways, num_streams, rounds)
            cpu = (_cpu(processes) - before) / (num_streams * NUM_PREDICT * rounds)
            part = rates["serow"] / rates["bare"]
            print(f"| {num_streams} | {rates['bare']:.1f} | {rates['serow']:.1f} | {part:.3f} | {cpu * 1e6:.0f} |", flush=True)


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", default="", help="the URL of one that runs already")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    given = parser.parse_args()
    asyncio.run(compare(given.folder, given.engine, given.rounds, given.streams))


if __name__ == "__main__":
    main()
