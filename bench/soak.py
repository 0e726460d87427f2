"""Many clients of every kind at one server for a while, with engines killed under them; then the accounts are checked.

    python -m bench.soak --minutes 10                # exit status 1 when a rule is broken
    python -m bench.soak --minutes 2 --clients 16 --seed 7
    python -m bench.soak --idle 2000                 # hold that many idle streams, print the server's memory

It starts a server of its own on a store of its own with the tiny models (and draws, when the extra `image` is installed).
Requests sent = answered + refused + failed + cancelled. A failure has to be the word of an engine that we killed; anything else
is lost, what does not come within two minutes hangs: both break the rules, as do slots, processes, files or memory that stay.
One request in ten is a hostile client's (`hostile.py`); meanwhile GET /api/version takes at most 100 ms, in 99 of 100 cases.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from bench import hostile
from bench.wishes import ENDLESS, ZOO, Crowd, Wish
from serow.engines.diffusers.runner import PACKAGES
from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.pipeline import files_of
from serow.store.store import Store

DEADLINE = 120.0  # seconds until an answer that did not come counts as hung; a pipeline that stops is given up after 30
QUIET_DEADLINE = 60.0  # seconds until everything has to be idle after the last request
MOST_GROWTH = 20 << 20  # bytes of the server over the whole time
LONGEST_PING = 0.1  # seconds of GET /api/version, 99 of 100 times
HEAVY_SHARE = 5  # of the requests of hostile clients, in a hundred
MOST_IDLE_MEMORY = 200 << 20  # bytes of the server with all idle streams
ENVIRON = {
    "SEROW_HOST": "127.0.0.1:0",
    "SEROW_NUM_PARALLEL": "2",
    "SEROW_MAX_QUEUE": "2",
    "SEROW_LOAD_TIMEOUT": "40s",
    "SEROW_STALL_TIMEOUT": "10s",
    "SEROW_KEEP_ALIVE": "20s",
}
_KILLED = re.compile(
    r"the engine (ended with signal \d+|made no progress for \d+ seconds|does not answer|is not running)"
    r"|(could not load the model: )?the engine ended with signal \d+ while it started"
    r"|the model did not load within \d+ seconds"
)
_NOISE = re.compile(r" INFO |status=503")  # lines of the log that tell nothing of a broken rule


@dataclass
class Tally:
    """How requests ended, by kind and outcome; what must not happen in words."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    num_sent: int = 0
    num_kills: int = 0
    memory: list[int] = field(default_factory=list)  # bytes of the server, each second
    pings: list[float] = field(default_factory=list)  # seconds of GET /api/version

    def count(self, outcome: str) -> int:
        """All requests of an outcome."""
        return sum(count for (_, each), count in self.outcomes.items() if each == outcome)


@dataclass(frozen=True)
class Server:
    """`serow serve`, and what the system knows of it."""

    url: str
    process: psutil.Process
    temporary: Path

    def engines(self) -> list[psutil.Process]:
        """Engines that it started, and their processes; the workers, which stay, are none."""
        return [each for each in self.process.children(recursive=True) if not _is_worker(each)]

    @property
    def num_files(self) -> int:
        """Files that it has open, without the two pipes of each worker that waits for work."""
        workers = sum(map(_is_worker, self.process.children()))
        return int(self.process.num_fds()) - 2 * workers

    @property
    def memory(self) -> int:
        """Resident bytes of the server alone."""
        return int(self.process.memory_info().rss)


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(part.startswith("serow.workers") for part in process.cmdline())
    return False


# The server -----------------------------------------------------------------------------------------------------------


def fill(root: Path, *, has_pictures: bool) -> None:
    """Make a store with the tiny models."""
    store = Store(root)
    lm = ZOO / "lm"
    recipes = {"zoo-think": [lm / "zoo-think.gguf"], "zoo-vision": [lm / "zoo-vision.gguf", lm / "zoo-vision-mmproj.gguf"]}
    for name, paths in recipes.items():
        _create(store, name, {path.name: path for path in paths})
    if has_pictures:
        _create(store, "zoo-shapes", files_of(ZOO / "image" / "zoo-shapes")[0])


def _create(store: Store, name: str, paths: dict[str, Path]) -> None:
    files = {label: store.blobs.add(path) for label, path in paths.items()}
    for _ in store.create(Name.parse(name), Recipe(files=files)):
        pass


@contextmanager
def serving(root: Path, *program: str, **environ: str) -> Iterator[Server]:
    """A server of our own, as Python's arguments name one; whatever happens, it and its engines are gone afterwards."""
    temporary = root / "t"
    temporary.mkdir()
    env = {
        **os.environ,
        **ENVIRON,
        "SEROW_MODELS": str(root / "models"),
        "TMPDIR": str(temporary),
        "XDG_RUNTIME_DIR": "",
        **environ,
    }
    with (
        (root / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, *(program or ("-m", "serow", "serve"))], env=env, stdout=subprocess.PIPE, stderr=log, text=True
        ) as child,
    ):
        assert child.stdout is not None
        try:
            yield Server(child.stdout.readline().split()[-1], psutil.Process(child.pid), temporary)
        finally:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(QUIET_DEADLINE)
            child.kill()


# The clients ----------------------------------------------------------------------------------------------------------


async def fulfil(session: aiohttp.ClientSession, wish: Wish, tally: Tally) -> None:
    """Send one request and book how it ended."""
    tally.num_sent += 1
    limit = DEADLINE if wish.leaves_after is None else wish.leaves_after
    try:
        async with asyncio.timeout(limit):
            outcome, words = await _answer(session, wish)
    except TimeoutError:
        outcome, words = ("hung", "no answer") if wish.leaves_after is None else ("cancelled", "")
    except (aiohttp.ClientError, ValueError, KeyError) as error:
        outcome, words = "lost", f"{type(error).__name__}: {error}"
    tally.outcomes[wish.kind, outcome] += 1
    if outcome in ("hung", "lost"):
        tally.faults.append(f"{wish.kind}: {outcome}: {words}")


async def _answer(session: aiohttp.ClientSession, wish: Wish) -> tuple[str, str]:
    data = wish.body if isinstance(wish.body, bytes) else json.dumps(wish.body).encode()
    async with session.post(wish.path, data=data) as response:
        status, lines = response.status, (await response.read()).splitlines()
    last: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return _judge(wish, status, last)


def _judge(wish: Wish, status: int, last: dict[str, Any]) -> tuple[str, str]:
    """The outcome of an answer that came, and what it said."""
    words = str(last.get("error", ""))
    if status in (400, 404, 413, 503) and words and (status == 503 or wish.kind == "bad"):
        return "refused", words
    if status in (200, 500) and _KILLED.fullmatch(words):
        return "failed", words
    is_whole = status == 200 and (last.get("done") is True or wish.path != "/api/generate") and wish.kind != "bad"
    return ("answered", "") if is_whole and wish.fits(last) else ("lost", f"status {status}, last record {str(last)[:300]}")


async def live(url: str, crowd: Crowd, attackers: hostile.Crowd, tally: Tally, end: float) -> None:
    """One client, until the time is up; now and then with a new connection."""
    host, port = url.removeprefix("http://").split(":")
    while time.monotonic() < end:
        async with aiohttp.ClientSession(url) as session:
            for _ in range(20):
                if time.monotonic() >= end:
                    break
                if crowd.is_hostile():
                    await harass(host, int(port), attackers, tally)
                else:
                    await fulfil(session, crowd.wish(), tally)


async def harass(host: str, port: int, crowd: hostile.Crowd, tally: Tally) -> None:
    """Send one hostile request and book how it ended."""
    tally.num_sent += 1
    outcome, words = await hostile.harass(host, port, crowd)
    tally.outcomes["hostile", outcome] += 1
    if outcome == "lost":
        tally.faults.append(f"hostile: {words}")


async def ping(url: str, tally: Tally) -> None:
    """Ask for the version ten times a second."""
    host, port = url.removeprefix("http://").split(":")
    while True:
        tally.pings.append(await hostile.pinged(host, int(port)))
        await asyncio.sleep(0.1)


async def kill_engines(server: Server, seed: int, tally: Tally, end: float) -> None:
    """Kill, abort or stop an engine every few seconds."""
    chance = random.Random(seed)
    while time.monotonic() < end - DEADLINE / 4:
        await asyncio.sleep(chance.uniform(2, 8))
        engines = server.engines()
        if engines:
            with contextlib.suppress(psutil.NoSuchProcess):
                chance.choice(engines).send_signal(chance.choice((signal.SIGKILL, signal.SIGABRT, signal.SIGSTOP)))
                tally.num_kills += 1


async def watch_memory(server: Server, tally: Tally) -> None:
    """Note the server's memory each second."""
    while True:
        tally.memory.append(server.memory)
        await asyncio.sleep(1)


# The accounts ---------------------------------------------------------------------------------------------------------


async def until_quiet(server: Server) -> bool:
    """Unload everything; whether no request runs or waits and no engine, nor its directory, is left in the end."""
    deadline = time.monotonic() + QUIET_DEADLINE
    async with aiohttp.ClientSession(server.url) as session:
        while time.monotonic() < deadline:
            async with session.get("/api/ps", params={"verbose": "1"}) as response:
                load = await response.json()
            is_idle = load["num_waiting"] == 0 and all(model["num_running"] == 0 for model in load["models"])
            if is_idle and not server.engines() and not list(server.temporary.glob("serow*/engine-*")):
                return True
            async with session.get("/api/tags") as response:
                names = [model["name"] for model in (await response.json())["models"]]
            for name in names:  # all of them: an engine that only counts tokens is told nowhere
                await session.post("/api/generate", json={"model": name, "keep_alive": 0})
            await asyncio.sleep(0.2)
    return False


async def num_left_open(server: Server, files_before: int) -> int:
    """Files that are open beyond those before, once the last connections had their time to close."""
    for _ in range(int(QUIET_DEADLINE / 0.2)):
        if server.num_files <= files_before:
            break
        await asyncio.sleep(0.2)
    return server.num_files - files_before


def growth(memory: list[int]) -> int:
    """Bytes that the server grew, from its second fifth, when every kind of work was seen, to its last."""
    fifth = max(1, len(memory) // 5)
    return int(statistics.median(memory[-fifth:]) - statistics.median(memory[fifth : 2 * fifth]))


def broken_rules(tally: Tally, server: Server, num_open: int, is_quiet: bool) -> Iterator[str]:
    """What must not be."""
    counted = sum(tally.outcomes.values())
    if counted != tally.num_sent:
        yield f"{tally.num_sent} requests were sent, {counted} ended"
    for name in ("lost", "hung"):
        if number := tally.count(name):
            yield f"{number} requests {name}"
    if not is_quiet:
        yield f"requests, engines or their directories stayed: {[engine.pid for engine in server.engines()]}"
    if num_open > 0:
        yield f"{num_open} files stayed open"
    if (longest := hostile.worst_of_hundred(tally.pings)) > LONGEST_PING:
        yield f"GET /api/version took {1e3 * longest:.0f} ms once in a hundred times"
    if (grown := growth(tally.memory)) > MOST_GROWTH:
        yield f"the server grew by {grown / 1e6:.1f} MB"


def report(tally: Tally, seconds: float) -> None:
    """The table of outcomes by kind, and what there was of memory and kills."""
    outcomes = ("answered", "refused", "failed", "cancelled", "lost", "hung")
    print(f"{'':10}" + "".join(f"{outcome:>11}" for outcome in outcomes))
    for kind in sorted({kind for kind, _ in tally.outcomes}):
        print(f"{kind:10}" + "".join(f"{tally.outcomes[kind, outcome]:11}" for outcome in outcomes))
    print(f"{'all':10}" + "".join(f"{tally.count(outcome):11}" for outcome in outcomes))
    megabytes = [number / 1e6 for number in (min(tally.memory), max(tally.memory), growth(tally.memory))]
    print(f"\n{tally.num_sent} requests in {seconds:.0f} s, {tally.num_kills} engines killed or stopped")
    longest = 1e3 * hostile.worst_of_hundred(tally.pings)
    print(f"GET /api/version: p99 {longest:.0f} ms, longest {1e3 * max(tally.pings, default=0):.0f} ms")
    print("server memory: {:.1f} to {:.1f} MB, grown by {:.1f} MB".format(*megabytes))


@asynccontextmanager
async def background(*work: Any) -> AsyncIterator[None]:
    """Tasks that are cancelled at the end."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def soak(server: Server, arguments: argparse.Namespace, *, has_pictures: bool) -> int:
    """Let the crowd at the server; returns the exit status."""
    files_before, tally, begun = server.num_files, Tally(), time.monotonic()
    end = begun + arguments.minutes * 60
    seeds = range(arguments.seed, arguments.seed + arguments.clients)
    crowds = [(Crowd(seed, has_pictures=has_pictures), hostile.Crowd(seed, heavy=HEAVY_SHARE)) for seed in seeds]
    watching = watch_memory(server, tally), kill_engines(server, arguments.seed, tally, end), ping(server.url, tally)
    async with background(*watching):
        await asyncio.gather(*(live(server.url, *each, tally, end) for each in crowds))
        is_quiet = await until_quiet(server)
    num_open = await num_left_open(server, files_before)
    report(tally, time.monotonic() - begun)
    broken = list(broken_rules(tally, server, num_open, is_quiet))
    for fault in [*tally.faults[:20], *broken]:
        print("BROKEN", fault)
    return 1 if broken else 0


async def hold_idle(server: Server, number: int) -> int:
    """Hold `number` streams that wait for their turn; returns the exit status."""
    before = server.memory
    body = json.dumps({"model": "zoo-think", "prompt": "Hello", "options": ENDLESS}).encode()
    head = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    host, port = server.url.removeprefix("http://").split(":")
    writers = []
    for _ in range(number):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head + body)
        writers.append(writer)
    async with asyncio.timeout(DEADLINE), aiohttp.ClientSession(server.url) as session:
        waiting = 0
        while waiting < number - 1:
            async with session.get("/api/ps", params={"verbose": "1"}) as response:
                waiting = (await response.json())["num_waiting"]
            await asyncio.sleep(0.2)
    memory = server.memory
    print(f"{waiting} streams wait, one runs: server memory {before / 1e6:.1f} -> {memory / 1e6:.1f} MB")
    for writer in writers:
        writer.close()
    is_quiet = await until_quiet(server)
    print(f"all gone: {server.memory / 1e6:.1f} MB" if is_quiet else "BROKEN requests or engines stayed")
    return 0 if is_quiet and memory < MOST_IDLE_MEMORY else 1


def main() -> int:
    """Parse the arguments, run, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--idle", type=int, default=0, metavar="N", help="hold N idle streams instead")
    arguments = parser.parse_args()
    has_pictures = not arguments.idle and all(importlib.util.find_spec(name) for name in PACKAGES)
    with tempfile.TemporaryDirectory(prefix="soak") as directory:
        root = Path(directory)
        fill(root / "models", has_pictures=has_pictures)
        environ = {"SEROW_NUM_PARALLEL": "1", "SEROW_MAX_QUEUE": str(arguments.idle)} if arguments.idle else {}
        with serving(root, **environ) as server:
            work = hold_idle(server, arguments.idle) if arguments.idle else soak(server, arguments, has_pictures=has_pictures)
            status = asyncio.run(work)
        if status:
            print(
                *(line for line in (root / "log").read_text(errors="replace").splitlines() if not _NOISE.search(line)), sep="\n"
            )
    return status


if __name__ == "__main__":
    sys.exit(main())
