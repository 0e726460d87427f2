"""What a conversation costs beside one prompt, and vectors beside the bare engine: all in one run, in turn, medians.

    python bench/conversation.py                                  # smollm2:135m of the store
    python bench/conversation.py --embed all-minilm.gguf --rounds 7

The same text is asked for by /api/chat and by /api/generate; a conversation of ten turns tells whether its earlier turns
stay in the prompt cache; 64 inputs of 100 tokens go through /api/embed and to the engine's own route.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from bench.spine import NAME, create, machine, prompt, serow_server
from serow import settings as serow_settings
from serow.engines.base import LoadRequest
from serow.engines.llamacpp.runner import LlamaRunner
from serow.options import LoadOptions
from serow.store.store import Store

NUM_TOKENS, TURNS, INPUTS, INPUT_TOKENS, NUM_PARALLEL = 128, 10, 64, 100, 8
OPTIONS = {"temperature": 0, "num_ctx": 4096, "logit_bias": {"2": -100, "0": -100}}  # SmolLM2 does not end by itself


async def stream(session: aiohttp.ClientSession, path: str, **body: Any) -> tuple[float, float, str]:
    """Seconds to the first record, tokens a second behind it, and the text."""
    body = {"model": NAME, "options": {**OPTIONS, "num_predict": NUM_TOKENS}, **body}
    started, first, text = time.perf_counter(), 0.0, ""
    async with session.post(path, json=body) as response:
        async for line in response.content:
            first = first or time.perf_counter()
            record = json.loads(line)
            text += record.get("response", "") or record.get("message", {}).get("content", "")
    return first - started, (record["eval_count"] - 1) / (time.perf_counter() - first), text


async def chat_beside_generate(session: aiohttp.ClientSession, rounds: int) -> float:
    """Tokens a second of chat as a share of generate's."""
    ratios = []
    for _ in range(rounds):
        question = prompt()
        _, generated, _ = await stream(session, "/api/generate", prompt=question)
        _, chatted, _ = await stream(session, "/api/chat", messages=[{"role": "user", "content": question}])
        ratios.append(chatted / generated)
    return statistics.median(ratios)


async def turns(session: aiohttp.ClientSession, rounds: int) -> float:
    """Seconds to the first token of turn 10 as a multiple of turn 2's."""
    ratios = []
    for _ in range(rounds):
        messages: list[dict[str, str]] = []
        firsts = []
        for turn in range(TURNS):
            messages.append({"role": "user", "content": f"{prompt(4)} {turn}"})
            options = {**OPTIONS, "num_predict": 32}
            first, _, text = await stream(session, "/api/chat", messages=messages, options=options)
            firsts.append(first)
            messages.append({"role": "assistant", "content": text})
        ratios.append(firsts[-1] / firsts[1])
    return statistics.median(ratios)


async def embeddings(weights: Path, rounds: int) -> float:
    """Inputs a second of /api/embed as a share of the engine's own."""
    ratios = []
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory))
        create(store, weights)
        found = serow_settings.load()
        model = store.resolve(NAME)
        request = LoadRequest(model, LoadOptions(num_ctx=model.context_length), NUM_PARALLEL)
        runner = LlamaRunner(replace(request, embeds=True), found)
        await runner.load()
        try:
            async with serow_server(SEROW_MODELS=directory) as (session, _, _):
                await embed(session, ["warm"])
                for number in range(rounds):
                    inputs = [" ".join(["word"] * (INPUT_TOKENS - 3)) + f" {number * INPUTS + each}" for each in range(INPUTS)]
                    through = await embed(session, inputs)
                    tokens = [await runner.tokenize(each, add_special=True) for each in inputs]
                    started = time.perf_counter()
                    await runner.embed(tokens)
                    ratios.append((time.perf_counter() - started) / through)
        finally:
            await runner.close()
    return statistics.median(ratios)


async def embed(session: aiohttp.ClientSession, inputs: list[str]) -> float:
    """Seconds that the inputs take."""
    started = time.perf_counter()
    async with session.post("/api/embed", json={"model": NAME, "input": inputs}) as response:
        assert response.status == 200, await response.text()
        await response.read()
    return time.perf_counter() - started


async def measure(weights: Path, embed_weights: Path | None, rounds: int) -> list[str]:
    """The lines of the table."""
    lines = ["| median | ratio |", "|---|---|"]
    with tempfile.TemporaryDirectory() as directory:
        create(Store(Path(directory)), weights)
        async with serow_server(SEROW_MODELS=directory) as (session, _, _):
            await stream(session, "/api/generate", prompt="warm")
            lines.append(f"| chat's tokens/s beside generate's | {await chat_beside_generate(session, rounds):.2f} |")
            lines.append(f"| first token of turn 10 beside turn 2 | {await turns(session, rounds):.2f} |")
    if embed_weights is not None:
        found = await embeddings(embed_weights, rounds)
        lines.append(f"| {INPUTS} inputs of {INPUT_TOKENS} tokens beside the bare engine | {found:.2f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a GGUF (default: smollm2:135m of the store)")
    parser.add_argument("--embed", type=Path, help="a GGUF that embeds; without one vectors are not measured")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, each with both sides (default: 7)")
    args = parser.parse_args()
    weights = args.model or Store(serow_settings.load().models).resolve("smollm2:135m").weights
    print(f"{machine()}, {args.rounds} rounds\n")
    print("\n".join(asyncio.run(measure(weights, args.embed, args.rounds))))


if __name__ == "__main__":
    main()
