"""Every engine of this machine behind Serow's endpoint, side by side; native llama.cpp with one slot stands for the peer.

    serow engine build llama.cpp && serow engine build ik
    serow engine check llama.cpp qwen2.5-coder:0.5b && serow engine check ik qwen2.5-coder:0.5b
    python -m bench.engines qwen2.5-coder:0.5b    # --rounds 7; --plot docs/engines.svg needs serow[bench]

Each side is a server of its own with the model loaded; they are asked in turn, in a new order every round, with prompts that
none has seen. Text that does not repeat itself is prose, sampled: what a small model finds likeliest soon repeats itself, which
flatters who guesses. Text that does is code that is edited. Medians, and their ratios to the first side; where llama.cpp is not
built that is the wheel with one slot. The last side is what Serow chooses by itself. A resumed conversation: some 3,000 tokens
are answered, the model is unloaded, and asked again with a few tokens more.
"""

import argparse
import asyncio
import itertools
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from bench.spine import machine, medians, prompt, serow_server
from serow.engines.check.prompts import PROSE
from serow.engines.home import EngineHome
from serow.settings import load

FIRST_TOKENS, STREAM_TOKENS, MANY_TOKENS, NUM_STREAMS = 4, 128, 64, 8
LONG_PROMPT = 500  # numbers, about 3,000 tokens
_AS_IT_COMES = "300000"  # GOMP_SPINCOUNT where nobody sets it: threads wait busily
OPTIONS = {"temperature": 0.0, "num_ctx": 4096}
NEW, DECODE, COPY = "new prompt to first token, ms", "decode of prose, tokens/s", "decode of code that is edited, tokens/s"
TOGETHER = "eight streams of prose, tokens/s"
COMPUTED, RESUMED = "3,000 tokens that are new, after a load, ms", "3,000 tokens that were left, after a load, ms"
LABELS = {  # in the picture
    NEW: "new prompt\nto first token",
    DECODE: "decode\nof prose",
    COPY: "decode of\nedited code",
    TOGETHER: "eight streams",
    RESUMED: "3,000 tokens\nkept",
}
CODE = """\
def area{0}(shapes: list[tuple[str, float, float]]) -> dict[str, float]:
    areas: dict[str, float] = {{}}
    for kind, width, height in shapes:
        if kind == "rectangle":
            areas[kind] = areas.get(kind, {0}.0) + width * height
        elif kind == "triangle":
            areas[kind] = areas.get(kind, {0}.0) + width * height / 2
        elif kind == "ellipse":
            areas[kind] = areas.get(kind, {0}.0) + 3.14159 * width * height / 4
        else:
            raise ValueError(f"no such shape: {{kind}}")
    return areas


# The same function with a docstring:
def area{0}(shapes: list[tuple[str, float, float]]) -> dict[str, float]:
    '''Return the area of the shapes of each kind.'''
"""
_OPENING = 250  # characters of prose that the model goes on with
Row = dict[str, float]
_numbers = itertools.count(100)


@dataclass(frozen=True)
class Side:
    """A server under test, with the model that it runs."""

    name: str
    session: aiohttp.ClientSession
    model: str

    async def ask(self, text: str, num_predict: int, **options: float) -> tuple[float, int, float]:
        """Seconds to the first record, tokens, seconds from the first to the last one."""
        options = {**OPTIONS, "num_predict": num_predict, **options}
        body = {"model": self.model, "prompt": text, "raw": True, "options": options}
        started, first, last = time.perf_counter(), 0.0, b""
        async with self.session.post("/api/generate", json=body) as response:
            response.raise_for_status()
            async for line in response.content:
                first, last = first or time.perf_counter() - started, line
        return first, msgspec.json.decode(last)["eval_count"], time.perf_counter() - started - first

    async def unload(self) -> None:
        """Take the model out of memory."""
        async with self.session.post("/api/generate", json={"model": self.model, "keep_alive": 0}) as response:
            response.raise_for_status()

    async def running(self) -> str:
        """The engine that has the model, as /api/ps tells it."""
        async with self.session.get("/api/ps?verbose=1") as response:
            loaded = (await response.json())["models"][0]
        shape = f"{loaded['num_parallel']} slots, {loaded['num_draft']} drafts, flash attention {loaded['flash_attention']}"
        shape += ", repacked" * loaded["repack"]
        return f"{loaded['engine']}, {shape}"

    async def write(self, num_predict: int) -> tuple[int, float]:
        """Tokens and seconds of prose that no side has seen."""
        number = next(_numbers)
        _, tokens, seconds = await self.ask(
            f"Chapter {number}\n\n{PROSE[:_OPENING]}", num_predict, temperature=1.0, seed=number
        )
        return tokens, seconds


@asynccontextmanager
async def server(name: str, model: str, environ: dict[str, str]) -> AsyncIterator[Side]:
    """`serow serve` with these variables, on a free port."""
    async with serow_server(SEROW_KEEP_ALIVE="-1", **environ) as (session, _, _):
        yield Side(name, session, model)


async def short_round(side: Side) -> Row:
    """The figures of prompts that fit a line."""
    first, _, _ = await side.ask(prompt(), FIRST_TOKENS)
    tokens, seconds = await side.write(STREAM_TOKENS)
    _, copied, copying = await side.ask(CODE.format(next(_numbers)), STREAM_TOKENS)
    started = time.perf_counter()
    answers = await asyncio.gather(*(side.write(MANY_TOKENS) for _ in range(NUM_STREAMS)))
    together = sum(count for count, _ in answers) / (time.perf_counter() - started)
    return {NEW: first * 1e3, DECODE: (tokens - 1) / seconds, COPY: (copied - 1) / copying, TOGETHER: together}


async def long_round(side: Side) -> Row:
    """Times to the first token of a long conversation, first a new one, then the same gone on with; a load is in both."""
    text = prompt(LONG_PROMPT)
    await side.unload()
    computed, _, _ = await side.ask(text, FIRST_TOKENS)
    await side.unload()
    resumed, _, _ = await side.ask(f"{text} and then", FIRST_TOKENS)
    return {COMPUTED: computed * 1e3, RESUMED: resumed * 1e3}


def peer() -> dict[str, dict[str, str]]:
    """The side that stands for the peer: llama.cpp as it comes, with one slot; the wheel's where none is built."""
    engine = "llama.cpp" if _is_built("llama.cpp") else "wheel"
    alone = {"SEROW_NUM_PARALLEL": "1", "SEROW_SLOT_CACHE": "0", "SEROW_DRAFTS": "0", "GOMP_SPINCOUNT": _AS_IT_COMES}
    return {f"{engine}, one slot": {"SEROW_ENGINE": engine, **alone}}


def _is_built(name: str) -> bool:
    return any(engine.name == name for engine in EngineHome(load().engines).engines())


def variants(slots: Path) -> dict[str, dict[str, str]]:
    """The sides, the one that stands for the peer first."""
    kept = {"SEROW_SLOTS": str(slots)}
    sides = peer() | {"wheel": {"SEROW_ENGINE": "wheel", **kept}}
    if _is_built("llama.cpp"):
        sides["llama.cpp"] = {"SEROW_ENGINE": "llama.cpp", **kept}
    return sides | {"Serow's choice": kept}


async def measure(model: str, rounds: int, resumes: int, slots: Path) -> dict[str, Row]:
    """The medians of every side."""
    async with AsyncExitStack() as stack:
        sides = [await stack.enter_async_context(server(name, model, env)) for name, env in variants(slots).items()]
        for side in sides:
            await side.ask(prompt(), FIRST_TOKENS)
            print(f"{side.name}: {await side.running()}", file=sys.stderr)
        short = await in_turn(sides, short_round, rounds)
        long = await in_turn(sides, long_round, resumes)
    return {side.name: short[side.name] | long[side.name] for side in sides}


async def in_turn(sides: Sequence[Side], one_round: Callable[[Side], Awaitable[Row]], rounds: int) -> dict[str, Row]:
    """The medians of some rounds, each with every side, in another order every time."""
    rows: dict[str, list[Row]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in random.sample(sides, len(sides)):
            rows[side.name].append(await one_round(side))
        print(f"{one_round.__name__.replace('_', ' ')} {number + 1} of {rounds}", file=sys.stderr)
    return {name: medians(each) if each else {} for name, each in rows.items()}


def table(results: dict[str, Row]) -> list[str]:
    """Markdown: each figure, and in brackets how it compares with the first side's."""
    peer = next(iter(results.values()))
    head = ["| median (ratio to the first column) | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    return head + [
        f"| {key} | " + " | ".join(f"{row[key]:.1f} ({row[key] / peer[key]:.2f})" for row in results.values()) + " |"
        for key in peer
    ]


def plot(results: dict[str, Row], path: Path, title: str) -> None:
    """Bars of the ratios to the first side, so that longer is better: times are turned round."""
    from matplotlib import pyplot

    peer = next(iter(results.values()))
    figure, axes = pyplot.subplots(figsize=(9, 4.2), layout="constrained")
    shown = [key for key in LABELS if key in peer]
    for number, (name, row) in enumerate(results.items()):
        ratios = [peer[key] / row[key] if key.endswith("ms") else row[key] / peer[key] for key in shown]
        places = [index + number * 0.2 for index in range(len(shown))]
        axes.bar_label(axes.bar(places, ratios, 0.18, label=name), fmt="%.2f", fontsize=8)
    axes.set_xticks([index + 0.2 * (len(results) - 1) / 2 for index in range(len(shown))], [LABELS[key] for key in shown])
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel(f"times as fast as {next(iter(results))}")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model of the store")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, each with every side (default: 7)")
    parser.add_argument("--resumes", type=int, default=3, help="rounds of resumed conversations (default: 3)")
    parser.add_argument("--slots", type=Path, default=load().slot_directory, help="where unloaded slots are kept")
    parser.add_argument("--plot", type=Path, help="a file for a picture of the ratios, .svg or .png")
    args = parser.parse_args()
    results = asyncio.run(measure(args.model, args.rounds, args.resumes, args.slots))
    title = f"{args.model} on {machine()}"
    print(f"{title}, {args.rounds} rounds\n")
    print("\n".join(table(results)))
    if args.plot:
        plot(results, args.plot, title)


if __name__ == "__main__":
    main()
