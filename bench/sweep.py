"""Big values in every field of every route: which of them hold the event loop or wait for their answer, and for how long.

    python -m bench.sweep                      # exit status 1 when one goes beyond --limit milliseconds or --longest seconds
    python -m bench.sweep --path /api/chat --value "a long text"

The server's engines compute nothing. Time in which other programs had the cores is not counted, where the system tells it.
"""

import argparse
import asyncio
import contextlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from bench.hostile import answer_of, post
from bench.soak import Server, fill, serving
from serow.server.routes import OPERATIONS
from tests.support.hostile import places, with_value
from tests.support.samples import SAMPLES

_DEADLINE = 60.0  # seconds
_SETTLING = 1.0  # seconds until memory was given back
_HELD = re.compile(rb"the event loop was held seconds=([\d.]+) waited_for_cores=([\d.]+) place=(\S+)")
_SERVER = "import bench.fake_server, serow.server.stalls as s; s.LIMIT, s._BEAT = 0.01, 0.005; bench.fake_server.run()"
_MILLION = 1_000_000
VALUES = {
    "a long text": json.dumps("word " * (_MILLION // 5)),
    "a longer text": json.dumps("x" * 3_900_000),
    "a text of other letters": json.dumps("日本" * (_MILLION // 2), ensure_ascii=False),
    "a text that is too long": json.dumps("x" * 40_000_000),
    "a text of other letters that is too long": json.dumps("é" * 5_000_000, ensure_ascii=False),
    "lines": json.dumps("\n" * _MILLION),
    "opened tags": json.dumps("<think><tool_call>" * 50_000),
    "marks": json.dumps("{{[(*_`~#" * 100_000),
    "numbers": "[" + ",".join(["1234567"] * 99_000) + "]",
    "texts": "[" + ",".join(['"ab"'] * 99_000) + "]",
    "large texts": "[" + ",".join([json.dumps("word " * 20_000)] * 30) + "]",
    "objects": "[" + ",".join(["{}"] * 9_000) + "]",
    "many objects": "[" + ",".join(['{"type": "text", "text": "a"}'] * 40_000) + "]",
    "names": "{" + ",".join(f'"k{number}": {{}}' for number in range(90_000)) + "}",
    "a schema": '{"type": "object", "properties": {' + ",".join(f'"k{n}": {{"type": "string"}}' for n in range(30_000)) + "}}",
    "base64": json.dumps("aGVs" * 5_000_000),
    "levels": "[" * 95 + "1" + "]" * 95,
}


def requests(path: str, value: str) -> Iterator[tuple[str, str, bytes]]:
    """What is in which place of which route, and the bytes."""
    methods = {operation.path: operation.method for operation in OPERATIONS}
    for route, body in SAMPLES.items():
        if path not in route or route not in methods:
            continue
        body = body if route.startswith("/api") else {**body, "stream": False}
        for place in filter(None, places(body)):
            for name, text in VALUES.items():
                if value in name:
                    at = ".".join(map(str, place))
                    yield (
                        f"{route} {at}: {name}",
                        methods[route],
                        post(methods[route], route, with_value(body, place, text)).bytes_,
                    )


def held(log: IO[bytes]) -> list[tuple[float, str]]:
    """Milliseconds for which the loop was held since the last look, and where."""
    found = (_HELD.search(line) for line in log)
    return [(1e3 * (float(match[1]) - float(match[2])), match[3].decode()) for match in found if match]


async def sweep(server: Server, log: IO[bytes], arguments: argparse.Namespace) -> int:
    """Send them one after the other; returns the exit status."""
    host, port = server.url.removeprefix("http://").split(":")
    worst: list[str] = []
    before, most, number = server.memory, server.memory, 0
    for name, _, data in requests(arguments.path, arguments.value):
        number, begun = number + 1, time.monotonic()
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 28)
        status: Any = "none"
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(_DEADLINE):
                writer.write(data)
                status, _, _ = await answer_of(reader)
        writer.close()
        took, most = time.monotonic() - begun, max(most, server.memory)
        if took > arguments.longest:
            worst.append(f"{took:7.1f} s   {status} {name}")
            print(worst[-1], flush=True)
        await asyncio.sleep(0.02)
        for milliseconds, place in held(log):
            if milliseconds > arguments.limit:
                worst.append(f"{milliseconds:7.0f} ms  {status} {name} at {place}")
                print(worst[-1], flush=True)
    await asyncio.sleep(_SETTLING)
    print(f"{number} requests, {len(worst)} times beyond {arguments.limit} ms or {arguments.longest} s")
    print(
        "server memory: {:.0f} MB before, {:.0f} most, {:.0f} after".format(*(n / 1e6 for n in (before, most, server.memory)))
    )
    return 1 if worst else 0


def main() -> int:
    """Parse the arguments, run, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--path", default="", help="only routes with this in their path")
    parser.add_argument("--value", default="", help="only values with this in their name")
    parser.add_argument("--limit", type=float, default=50.0, metavar="MS")
    parser.add_argument("--longest", type=float, default=2.0, metavar="SECONDS", help="until an answer")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sweep") as directory:
        root = Path(directory)
        fill(root / "models", has_pictures=False)
        with serving(root, "-c", _SERVER) as server, (root / "log").open("rb") as log:
            return asyncio.run(sweep(server, log, arguments))


if __name__ == "__main__":
    sys.exit(main())
