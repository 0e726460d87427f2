"""Requests that nobody would write, at a server of our own: how many find a fault of ours, or hold the others up.

    python -m bench.fuzz --requests 100000          # exit status 1 when a rule is broken
    python -m bench.fuzz --requests 1000 --seed 7   # the same ones again
    python -m bench.fuzz --requests 10000 --real    # with engines that compute, ten times as slow

Each is made of a right body of a random route, or of a recorded one: a value of tests/support/hostile.py, or one that was made
up, in one or more places of it, a place less, bytes changed or cut off, an odd header, path or method, or broken framing. The
rules: no status of 500 or above but an engine's or 503, no "internal error", no stall of the event loop beyond 250 ms that is
not the machine's, and every answer within the deadline. What a client's request makes the engine do for long is left after
that deadline, and counted.
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

import uvloop

from bench.hostile import DEADLINE, Crowd, Sent, answer_of, judge, pinged, worst_of_hundred
from bench.soak import Server, fill, serving

_HELD = re.compile(r"the event loop was held seconds=([\d.]+) waited_for_cores=([\d.]+) (.*)")
_LIMIT = 0.25  # seconds
_NEVER_GOES_ON = re.compile(rb"\r\nConnection: ")


@dataclass
class Tally:
    """What came of them."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    left: list[Sent] = field(default_factory=list)
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
                status, body, goes_on = await answer_of(streams[0], is_head=sent.is_head)
            tally.statuses[str(status)] += 1
            if fault := judge(sent, status, body):
                tally.faults.append(f"{fault}\n    {sent.bytes_[:600]!r}")
        except TimeoutError:
            tally.statuses["left"] += 1
            tally.left.append(sent)
            goes_on = False
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            tally.statuses["closed"] += 1
            goes_on = False
        if not goes_on or sent.is_head or sent.bytes_.count(b"HTTP/1.") != 1 or _NEVER_GOES_ON.search(sent.bytes_):
            streams[1].close()
            streams = None


async def ping(host: str, port: int, tally: Tally) -> None:
    """Ask for the version ten times a second."""
    while True:
        tally.pings.append(await pinged(host, port))
        await asyncio.sleep(0.1)


def stalls(log: Path) -> tuple[int, list[str]]:
    """How often the server's loop was held, and where it was not for want of a core."""
    found = [match for line in log.read_text(errors="replace").splitlines() if (match := _HELD.search(line))]
    return len(found), [match[0] for match in found if float(match[1]) - float(match[2]) > _LIMIT]


async def fuzz(server: Server, log: Path, arguments: argparse.Namespace) -> int:
    """Let the crowd at the server; returns the exit status."""
    host, port = server.url.removeprefix("http://").split(":")
    tally, left, begun, before = Tally(), [arguments.requests], time.monotonic(), server.memory
    pinging = asyncio.create_task(ping(host, int(port), tally))
    crowds = [Crowd(arguments.seed * 1000 + number) for number in range(arguments.clients)]
    await asyncio.gather(*(ask(host, int(port), crowd, tally, left) for crowd in crowds))
    pinging.cancel()
    seconds, (num_stalls, ours) = time.monotonic() - begun, stalls(log)
    print(f"{tally.statuses.total()} requests in {seconds:.0f} s:", dict(sorted(tally.statuses.items())))
    print(
        f"GET /api/version meanwhile: p99 {1e3 * worst_of_hundred(tally.pings):.0f} ms, longest {1e3 * max(tally.pings):.0f} ms"
    )
    print(f"server memory: {before / 1e6:.0f} to {server.memory / 1e6:.0f} MB")
    print(f"stalls beyond 250 ms: {num_stalls}, of these not for want of a core: {len(ours)}")
    for sent in tally.left[:20]:
        print("LEFT", sent.path, sent.bytes_[:600])
    for fault in [*tally.faults[:20], *ours[:20]]:
        print("BROKEN", fault)
    return 1 if tally.faults or ours else 0


def main() -> int:
    """Parse the arguments, run, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", action="store_true", help="with engines that compute")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz") as directory:
        root = Path(directory)
        fill(root / "models", has_pictures=False)
        program = () if arguments.real else ("-m", "bench.fake_server")
        with serving(root, *program, SEROW_MAX_QUEUE="64") as server:
            status = uvloop.run(fuzz(server, root / "log", arguments))
        if status:
            log = (root / "log").read_text(errors="replace").splitlines()
            print(*(line for line in log if " INFO " not in line and "refused the" not in line), sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
