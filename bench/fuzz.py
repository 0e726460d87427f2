"""Requests that nobody would write, at a real server with real engines: how many find a fault of ours, or hold the others up.

    python -m bench.fuzz --requests 100000          # exit status 1 when a rule is broken
    python -m bench.fuzz --requests 1000 --seed 7   # the same ones again

Each is made of a right body of a random route, or of a recorded one: a value of tests/support/hostile.py in some place of it, a
place less, bytes changed or cut off, an odd header, path or method, or broken framing. The rules: no status of 500 or above but
an engine's or 503, no "internal error", no stall of the event loop beyond 250 ms, and every answer within the deadline.
What a client's request makes the engine do for long is left after that deadline, and counted.
"""

import argparse
import asyncio
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench.hostile import DEADLINE, Crowd, answer_of, judge, pinged, worst_of_hundred
from bench.soak import Server, fill, serving


@dataclass
class Tally:
    """What came of them."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    pings: list[float] = field(default_factory=list)  # seconds of GET /api/version meanwhile


async def ask(host: str, port: int, crowd: Crowd, tally: Tally, left: list[int]) -> None:
    """One client, with a connection as long as it lasts."""
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while left[0] > 0:
        left[0] -= 1
        sent = crowd.next()
        streams = streams or await asyncio.open_connection(host, port, limit=1 << 24)
        try:
            async with asyncio.timeout(DEADLINE):
                streams[1].write(sent.bytes_)
                status, body, goes_on = await answer_of(streams[0], sent)
            tally.statuses[str(status)] += 1
            if fault := judge(sent, status, body):
                tally.faults.append(f"{fault}\n    {sent.bytes_[:600]!r}")
        except TimeoutError:
            tally.statuses["left"] += 1
            goes_on = False
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            tally.statuses["closed"] += 1
            goes_on = False
        if not goes_on or sent.bytes_.count(b"HTTP/1.") != 1 or b"\r\nConnection: " in sent.bytes_ or sent.is_head:
            streams[1].close()
            streams = None


async def ping(host: str, port: int, tally: Tally) -> None:
    """Ask for the version ten times a second."""
    while True:
        tally.pings.append(await pinged(host, port))
        await asyncio.sleep(0.1)


async def stalls(host: str, port: int) -> int:
    """How often the server says that its loop was held."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    found = re.search(rb"^serow_loop_stall_seconds_count (\d+)", await reader.read(), re.M)
    writer.close()
    return int(found[1]) if found else 0


async def fuzz(server: Server, arguments: argparse.Namespace) -> int:
    """Let the crowd at the server; returns the exit status."""
    host, port = server.url.removeprefix("http://").split(":")
    tally, left, begun, before = Tally(), [arguments.requests], time.monotonic(), server.memory
    pinging = asyncio.create_task(ping(host, int(port), tally))
    crowds = [Crowd(arguments.seed + number) for number in range(arguments.clients)]
    await asyncio.gather(*(ask(host, int(port), crowd, tally, left) for crowd in crowds))
    pinging.cancel()
    seconds, num_stalls = time.monotonic() - begun, await stalls(host, int(port))
    print(f"{tally.statuses.total()} requests in {seconds:.0f} s:", dict(sorted(tally.statuses.items())))
    print(
        f"GET /api/version meanwhile: p99 {1e3 * worst_of_hundred(tally.pings):.0f} ms, longest {1e3 * max(tally.pings):.0f} ms"
    )
    print(f"server memory: {before / 1e6:.0f} to {server.memory / 1e6:.0f} MB; stalls beyond 250 ms: {num_stalls}")
    for fault in tally.faults[:20]:
        print("BROKEN", fault)
    return 1 if tally.faults or num_stalls else 0


def main() -> int:
    """Parse the arguments, run, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz") as directory:
        root = Path(directory)
        fill(root / "models", has_pictures=False)
        with serving(root, SEROW_MAX_QUEUE="64") as server:
            status = asyncio.run(fuzz(server, arguments))
        if status:
            log = (root / "log").read_text(errors="replace").splitlines()
            print(*(line for line in log if " INFO " not in line and "refused the" not in line), sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
