"""What other clients' streams lose beside one that sends what works for hours if it may.

    python -m bench.beside                      # exit status 1 when the median stream loses more than a tenth
    python -m bench.beside --model smollm2:135m --models ~/.ollama/models --kind schemas

Two clients, told apart by their addresses (127.0.0.1 and .2, so this runs on Linux). One streams; the other sends requests of
one kind, several at once, or nothing: in turn, each for some seconds. Medians of tokens a second, and what is left of them.
Requests that are answered take a share of the engine, as any client's do: what is left beside these is compared with what is
left beside as many plain ones, which ask for one token each, too.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from bench.hostile import answer_of, post
from bench.soak import Server, fill, serving
from tests.constraints.hostile import HOSTILE
from tests.support.server import ENDLESS

MOST_LOST = 0.1
SECONDS = 8.0  # of one measurement
_AT_ONCE = 6  # requests of the hostile client
_MANY, _FEW = 2000, 40  # requests that are made beforehand
_PAUSE = 1.0  # seconds in which what was begun ends


def _schema(number: int) -> dict[str, Any]:
    return {"format": {"type": "integer", "multipleOf": 9_999_991 + 2 * number}}


def _chain(number: int) -> dict[str, Any]:
    """Quickly compiled; the answer takes the validator for ever."""
    steps = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    defs = {**steps, "d40": {"type": "string", "title": str(number)}}
    return {"format": {"not": {"$ref": "#/$defs/d0"}, "enum": [7], "$defs": defs}, "options": {"num_predict": 4}}


def _grammar(number: int) -> dict[str, Any]:
    return {"format": {"grammar": "\n" * (19_000 + number) + 'root ::= "a"'}}


def _pattern(number: int) -> dict[str, Any]:
    return {"format": {**HOSTILE["exponential repetition"](), "title": str(number)}}


def _template(number: int) -> dict[str, Any]:
    called = '{{ define "t" }}' + "{{ if eq .Prompt .Prompt }}{{ end }}" * 1000 + "{{ end }}"
    return {"template": called + '{{ template "t" . }}' * 100 + str(number) + "{{ .Prompt }}"}


def _picture(number: int) -> dict[str, Any]:
    out = io.BytesIO()
    Image.new("L", (8000, 6000 + number % 100)).save(out, "PNG")
    return {"model": "zoo-vision", "images": [base64.b64encode(out.getvalue()).decode()]}


def _plain(number: int) -> dict[str, Any]:
    return {"prompt": f"{number}"}


KINDS: dict[str, Callable[[int], dict[str, Any]]] = {
    "plain": _plain,
    "schemas": _schema,
    "answers to check": _chain,
    "grammars": _grammar,
    "patterns": _pattern,
    "templates": _template,
    "pictures": _picture,
}


async def connected(server: Server, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection from one of this machine's own addresses."""
    host, port = server.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port), local_addr=(address, 0), limit=1 << 26)


async def harass(server: Server, requests: Iterator[bytes], tally: list[int]) -> None:
    """Send one after the other for as long as this is let."""
    while True:
        reader, writer = await connected(server, "127.0.0.2")
        try:
            writer.write(next(requests))
            tally.append((await answer_of(reader))[0])
        except (OSError, asyncio.IncompleteReadError):
            tally.append(0)
        finally:
            writer.close()


async def stream(server: Server, body: dict[str, Any], counted: list[float]) -> None:
    """Note when each record of a stream came."""
    reader, writer = await connected(server, "127.0.0.1")
    try:
        writer.write(post("POST", "/api/generate", json.dumps(body).encode()).bytes_)
        while line := await reader.readline():
            if line.startswith(b"{"):  # not what frames the records
                counted.append(time.perf_counter())
            if b'"done":true' in line or b'"error"' in line:
                break
    finally:
        writer.close()


async def measured(server: Server, model: str, kind: str, numbers: Iterator[int], tally: list[int]) -> float:
    """Records a second of a stream beside one kind of request; "" is none."""
    body = {"model": model, "prompt": "Count.", "raw": True, "options": {**ENDLESS, "num_ctx": 2048}}
    counted: list[float] = []

    def requests() -> Iterator[bytes]:
        for number in numbers:
            one = {"model": model, "prompt": "x", "stream": False, "options": {"num_predict": 1}}
            wanted = {**one, **KINDS[kind](number)}
            yield post("POST", "/api/generate", json.dumps(wanted).encode()).bytes_

    number = _FEW if kind == "pictures" else _MANY
    ready = iter(list(itertools.islice(requests(), number)) if kind else [])  # not made while it is measured
    tasks = [asyncio.create_task(harass(server, ready, tally)) for _ in range(_AT_ONCE if kind else 0)]

    async def again() -> None:
        while True:
            await stream(server, body, counted)

    tasks.append(asyncio.create_task(again()))
    await asyncio.sleep(_PAUSE)
    start, before = time.perf_counter(), len(counted)
    await asyncio.sleep(SECONDS)
    rate = (len(counted) - before) / (time.perf_counter() - start)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(_PAUSE)
    return rate


async def compare(server: Server, arguments: argparse.Namespace) -> int:
    """Quiet and beside each kind, in turn; returns the exit status."""
    kinds = [kind for kind in KINDS if arguments.kind in kind or kind == "plain"]
    numbers, tallies = itertools.count(1), {kind: list[int]() for kind in kinds}
    left: dict[str, list[float]] = {kind: [] for kind in kinds}
    await measured(server, arguments.model, "", numbers, [])
    for _ in range(arguments.rounds):
        quiet = await measured(server, arguments.model, "", numbers, [])
        for kind in kinds:
            beside = await measured(server, arguments.model, kind, numbers, tallies[kind])
            after = await measured(server, arguments.model, "", numbers, [])
            left[kind].append(2 * beside / (quiet + after))
            print(f"{kind:18} {quiet:6.0f} {beside:6.0f} {after:6.0f} tokens a second", file=sys.stderr, flush=True)
            quiet = after
    medians = {kind: statistics.median(left[kind]) for kind in kinds}
    is_kept = True
    for kind in kinds:
        statuses = Counter(tallies[kind])
        shared = medians["plain"] if 2 * statuses[200] > statuses.total() else 1.0
        is_kept &= medians[kind] >= (1 - MOST_LOST) * shared
        compared = f", {medians[kind] / shared:.2f} of that beside plain ones" if shared < 1 else ""
        print(f"{kind:18} {medians[kind]:.2f} is left{compared}; answers by status: {dict(sorted(statuses.items()))}")
    return 0 if is_kept else 1


def main() -> int:
    """Parse the arguments, run, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="zoo-think", help="the one that streams")
    parser.add_argument("--models", type=Path, help="a store that has it")
    parser.add_argument("--kind", default="", help="only kinds with this in their name")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="beside") as directory:
        root = Path(directory)
        fill(root / "models", has_pictures=False)
        stores = [str(root / "models"), *([str(arguments.models)] if arguments.models else [])]
        environ = {"SEROW_NUM_PARALLEL": "0", "SEROW_MAX_QUEUE": "64", "SEROW_MODELS": ":".join(stores)}
        with serving(root, **environ) as server, contextlib.suppress(KeyboardInterrupt):
            return asyncio.run(compare(server, arguments))
    return 1


if __name__ == "__main__":
    sys.exit(main())
