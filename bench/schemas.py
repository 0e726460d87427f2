"""JSON schemas as people use them, through Serow's constraints and a real engine.

    python bench/schemas.py DIRECTORY --compile-only                      # what is accepted, and how fast
    python bench/schemas.py DIRECTORY --model smollm2.gguf --limit 10     # through an engine of its own
    python bench/schemas.py DIRECTORY --model smollm2:135m --url http://127.0.0.1:11434

DIRECTORY holds the sets: one `*.jsonl` each, a line `{"name": …, "schema": …}` for each schema, as JSONSchemaBench has them
(https://github.com/guidance-ai/jsonschemabench). Every finished text is judged by the `jsonschema` package under the draft that
its schema names. A text is *flagged* when Serow says `format_valid: false`; an invalid one that isn't is a defect, and the
exit status is 1. *speed* is constrained decoding as a share of decoding without a constraint, measured in between.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from serow.constraints import compile_format
from serow.engines.base import CompletionRequest, LoadRequest
from serow.engines.home import forced
from serow.engines.kinds import WHEEL
from serow.engines.llamacpp.runner import LlamaRunner
from serow.errors import FormatError
from serow.options import LoadOptions, Options
from serow.settings import load
from serow.store.model import Model
from serow.store.name import Name

PROMPT = "Write one short example of such a JSON document."
DEADLINE = 300  # seconds an answer may take
FREE_EVERY = 5  # schemas between two answers without a constraint


@dataclass(frozen=True)
class Answer:
    """A text that an engine gave. Times in nanoseconds."""

    text: str
    is_cut: bool
    is_flagged: bool
    num_tokens: int
    duration: int

    @property
    def token_us(self) -> float:
        """Microseconds for a token."""
        return self.duration / max(self.num_tokens, 1) / 1e3


@dataclass
class Tally:
    """What became of the schemas of one set."""

    num_schemas: int = 0
    num_relaxed: int = 0
    refused: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)  # and not flagged
    num_valid: int = 0
    num_flagged: int = 0
    num_cut: int = 0
    compile_ms: list[float] = field(default_factory=list)
    token_us: list[float] = field(default_factory=list)
    free_us: list[float] = field(default_factory=list)  # a token without a constraint, measured in between

    @property
    def num_accepted(self) -> int:
        return self.num_schemas - len(self.refused)


# asks for a text in a format, or without one
Ask = Callable[[dict[str, Any] | None, int], Awaitable[Answer]]


@asynccontextmanager
async def own_engine(weights: Path, num_predict: int) -> AsyncIterator[Ask]:
    """An engine with one slot, the wheel's or that of SEROW_LLAMA_SERVER; texts are hot, so that they differ."""
    model = Model(name=Name.parse(weights.stem), digest="", size=0, modified_at=datetime.now(UTC), weights=weights)
    settings = load()
    runner = LlamaRunner(LoadRequest(model, LoadOptions(num_ctx=4096), 1, forced(settings) or WHEEL), settings)
    await runner.load()
    text = await runner.apply_template([{"role": "user", "content": PROMPT}], {"enable_thinking": False})
    prompt = await runner.tokenize(text, add_special=True)

    async def ask(schema: dict[str, Any] | None, seed: int) -> Answer:
        constraint = compile_format(schema)
        request = CompletionRequest(prompt, Options(seed=seed, temperature=0.8), num_predict)
        if constraint is not None:
            request = replace(request, grammar=constraint.grammar, gbnf=constraint.gbnf, json_schema=constraint.schema)
        async with asyncio.timeout(DEADLINE), aclosing(runner.complete(request)) as stream:
            chunks = [chunk async for chunk in stream]
        usage, text = chunks[-1].usage, "".join(chunk.text for chunk in chunks)
        assert usage is not None
        is_cut = usage.done_reason == "length"
        is_flagged = constraint is not None and not is_cut and not constraint.validate(text)
        return Answer(text, is_cut, is_flagged, usage.eval_count, usage.eval_duration)

    try:
        yield ask
    finally:
        await runner.close()


@asynccontextmanager
async def server(url: str, model: str, num_predict: int) -> AsyncIterator[Ask]:
    """A running Serow."""
    timeout = aiohttp.ClientTimeout(total=DEADLINE)
    async with aiohttp.ClientSession(url, timeout=timeout) as session:

        async def ask(schema: dict[str, Any] | None, seed: int) -> Answer:
            options = {"seed": seed, "num_predict": num_predict}
            body = {"model": model, "prompt": PROMPT, "stream": False, "think": False, "format": schema, "options": options}
            async with session.post("/api/generate", json=body) as response:
                answer = await response.json()
            if response.status != 200:
                raise FormatError(answer["error"])
            is_flagged = answer.get("format_valid") is False
            is_cut = answer["done_reason"] == "length"
            return Answer(answer["response"], is_cut, is_flagged, answer["eval_count"], answer["eval_duration"])

        yield ask


def schemas(path: Path, limit: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and schemas of one set."""
    with path.open() as lines:
        for number, line in enumerate(lines):
            if number == limit:
                break
            record = json.loads(line)
            yield record["name"], record["schema"]


def fits(schema: dict[str, Any], text: str) -> bool:
    """What the reference implementation says."""
    try:
        return bool(validator_for(schema, default=Draft202012Validator)(schema).is_valid(json.loads(text)))
    except (ValueError, RecursionError):
        return False


def compile_one(tally: Tally, name: str, schema: dict[str, Any]) -> bool:
    """Compile a schema and note how it went; whether it was accepted."""
    tally.num_schemas += 1
    start = time.perf_counter()
    try:
        constraint = compile_format(schema)
    except FormatError as error:
        tally.refused.append(f"{name}: {error}")
        return False
    finally:
        tally.compile_ms.append((time.perf_counter() - start) * 1e3)
    tally.num_relaxed += bool(constraint and constraint.warnings)
    return True


async def sample_one(tally: Tally, name: str, schema: dict[str, Any], ask: Ask, seed: int) -> None:
    """Have a text made for a schema and judge it."""
    try:
        answer = await ask(schema, seed)
    except FormatError as error:
        tally.refused.append(f"{name}: {error}")
        return
    tally.token_us.append(answer.token_us)
    if answer.is_cut:
        tally.num_cut += 1
    elif answer.is_flagged:
        tally.num_flagged += 1
    elif fits(schema, answer.text):
        tally.num_valid += 1
    else:
        tally.invalid.append(f"{name}: {answer.text[:200]}")


async def run_set(path: Path, limit: int | None, ask: Ask | None, seed: int) -> Tally:
    """One set."""
    tally = Tally()
    for number, (name, schema) in enumerate(schemas(path, limit)):
        if compile_one(tally, name, schema) and ask is not None:
            await sample_one(tally, name, schema, ask, seed)
            if number % FREE_EVERY == 0:
                tally.free_us.append((await ask(None, seed + number)).token_us)
    return tally


HEAD = f"{'set':<18}{'schemas':>8}{'accepted':>9}{'refused':>8}{'relaxed':>8}{'compile ms':>12}{'max':>7}"
SAMPLED_HEAD = f"{'valid':>7}{'flagged':>8}{'INVALID':>8}{'cut':>5}{'µs/token':>10}{'added':>8}{'speed':>7}"


def line(name: str, tally: Tally) -> str:
    """One row of the table."""
    refused = f"{len(tally.refused):>8}"
    times = f"{statistics.median(tally.compile_ms):>12.2f}{max(tally.compile_ms):>7.1f}"
    row = f"{name:<18}{tally.num_schemas:>8}{tally.num_accepted:>9}{refused}{tally.num_relaxed:>8}{times}"
    if not (tally.token_us and tally.free_us):
        return row
    token, free = statistics.median(tally.token_us), statistics.median(tally.free_us)
    texts = f"{tally.num_valid:>7}{tally.num_flagged:>8}{len(tally.invalid):>8}{tally.num_cut:>5}"
    return f"{row}{texts}{token:>10.0f}{token - free:>8.0f}{free / token:>7.2f}"


def total(tallies: list[Tally]) -> Tally:
    """All sets as one."""
    whole = Tally()
    for tally in tallies:
        for name, value in vars(tally).items():
            setattr(whole, name, getattr(whole, name) + value)
    return whole


async def run(args: argparse.Namespace, ask: Ask | None) -> bool:
    """Print the table and what went wrong; whether no invalid text passed unflagged."""
    print(HEAD + (SAMPLED_HEAD if ask is not None else ""))
    tallies = []
    for path in sorted(args.directory.glob("*.jsonl")):
        tallies.append(await run_set(path, args.limit, ask, args.seed))
        print(line(path.stem, tallies[-1]), flush=True)
    whole = total(tallies)
    print(line("all", whole))
    for title, lines in (("refused", whole.refused), ("invalid and not flagged", whole.invalid)):
        print("".join(f"\n{title}: {line}" for line in lines), end="\n" if lines else "")
    return not whole.invalid


async def main(args: argparse.Namespace) -> bool:
    if args.compile_only:
        return await run(args, None)
    if args.url:
        async with server(args.url, args.model, args.num_predict) as ask:
            return await run(args, ask)
    async with own_engine(Path(args.model), args.num_predict) as ask:
        return await run(args, ask)


def parse(argv: list[str]) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="the sets: *.jsonl files of {name, schema}")
    parser.add_argument("--compile-only", action="store_true", help="compile the schemas, have no text made")
    parser.add_argument("--model", help="a GGUF file, or with --url the name of a model")
    parser.add_argument("--url", help="a running Serow, instead of an engine of its own")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N schemas of each set only")
    parser.add_argument("--num-predict", type=int, default=256, metavar="N", help="tokens before a text is cut (256)")
    parser.add_argument("--seed", type=int, default=1, help="of the sampling (1)")
    args = parser.parse_args(argv)
    if not args.compile_only and not args.model:
        parser.error("--model is needed, or --compile-only")
    return args


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main(parse(sys.argv[1:]))) else 1)
