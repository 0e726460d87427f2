"""Many clients of every kind at one server for a while, with engines killed under them; then the accounts are checked.

    python bench/soak.py --minutes 10                # exit status 1 when a rule is broken
    python bench/soak.py --minutes 2 --clients 16 --seed 7
    python bench/soak.py --idle 2000                 # hold that many idle streams, print the server's memory

It starts a server of its own on a store of its own with the tiny models (and draws, when the extra `image` is installed).
Requests sent = answered + refused + failed + cancelled. A failure has to be the word of an engine that we killed; anything else
is lost, what does not come within two minutes hangs: both break the rules, as do slots, processes, files or memory that stay.
"""

import argparse
import asyncio
import base64
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
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from serow.runner.image import PACKAGES
from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.pipeline import files_of
from serow.store.store import Store

ZOO = Path(__file__).parents[1] / "tests" / "models" / "zoo"
DEADLINE = 120.0  # seconds until an answer that did not come counts as hung; a pipeline that stops is given up after 30
QUIET_DEADLINE = 60.0  # seconds until everything has to be idle after the last request
MOST_GROWTH = 20 << 20  # bytes of the server over the whole time
MOST_IDLE_MEMORY = 200 << 20  # bytes of the server with all idle streams
ENDLESS = {"num_predict": -1, "logit_bias": {"2": -1e9}, "seed": 1}  # zoo-think can't say that it is done
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


@dataclass(frozen=True)
class Wish:
    """A request: what is sent, and after how many seconds its client leaves, if it does."""

    kind: str
    body: dict[str, Any] | bytes
    path: str = "/api/generate"
    leaves_after: float | None = None
    fits: Callable[[dict[str, Any]], bool] = lambda _: True  # whether the whole answer is a right one


@dataclass
class Tally:
    """How requests ended, by kind and outcome; what must not happen in words."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    num_sent: int = 0
    num_kills: int = 0
    memory: list[int] = field(default_factory=list)  # bytes of the server, each second

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
        """Processes that it started, and theirs."""
        found: list[psutil.Process] = self.process.children(recursive=True)
        return found

    @property
    def memory(self) -> int:
        """Resident bytes of the server alone."""
        return int(self.process.memory_info().rss)


# The server -----------------------------------------------------------------------------------------------------------


def fill(root: Path, *, has_pictures: bool) -> None:
    """Make a store with the tiny models."""
    store = Store(root)
    lm = ZOO / "lm"
    recipes = {"zoo-think": [lm / "zoo-think.gguf"], "zoo-vision": [lm / "zoo-vision.gguf", lm / "zoo-vision-mmproj.gguf"]}
    for name, paths in recipes.items():
        _create(store, name, {path.name: path for path in paths})
    if has_pictures:
        _create(store, "zoo-shapes", files_of(ZOO / "image" / "zoo-shapes"))


def _create(store: Store, name: str, paths: dict[str, Path]) -> None:
    files = {label: store.blobs.add(path) for label, path in paths.items()}
    for _ in store.create(Name.parse(name), Recipe(files=files)):
        pass


@contextmanager
def serving(root: Path, **environ: str) -> Iterator[Server]:
    """A server of our own; whatever happens, it and its engines are gone afterwards."""
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
            [sys.executable, "-m", "serow", "serve"], env=env, stdout=subprocess.PIPE, stderr=log, text=True
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

BAD: tuple[bytes, ...] = (
    b"",
    b"{",
    b"[]",
    b"\xff\xfe",
    b'{"model": 5}',
    b'{"model": "no-such-model", "prompt": "x"}',
    b'{"model": "../../etc/passwd", "prompt": "x"}',
    b'{"model": "zoo-think", "prompt": "x", "options": {"top_k": "many"}}',
    b'{"model": "zoo-think", "prompt": "x", "options": {"num_ctx": -5}}',
    b'{"model": "zoo-think", "prompt": "x", "keep_alive": "30"}',
    b'{"model": "zoo-think", "prompt": "x", "format": {"type": 5}}',
    b'{"model": "zoo-think", "prompt": "x", "format": {"regex": "((((("}}',
    b'{"model": "zoo-think", "prompt": "x", "template": "{{ if }}"}',
    b'{"model": "zoo-think", "prompt": "x", "context": [99999999]}',
    b'{"model": "zoo-think", "prompt": "x", "images": ["aGVsbG8="]}',
    b'{"model": "zoo-vision", "prompt": "x", "images": ["http://127.0.0.1/x.png"]}',
    b'{"model": "zoo-vision", "prompt": "x", "think": true}',
    b'{"model": "zoo-think", "prompt": "x", "raw": true, "system": "y"}',
)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}}, "required": ["n", "ok"]}
QUESTIONS = ("What is 3 + 4?", "Hello", "What is 13 + 24?", "Tell me a story", "1 2 3 4")


def _holds_json(record: dict[str, Any]) -> bool:
    return bool(record["done_reason"] == "length") or {"n", "ok"} <= json.loads(record["response"]).keys()


class Crowd:
    """Makes up requests; the same seed makes the same ones."""

    def __init__(self, seed: int, *, has_pictures: bool) -> None:
        self._random = random.Random(seed)
        self._picture = base64.b64encode(next((ZOO / "lm" / "vision_images").glob("*.png")).read_bytes()).decode()
        kinds = {
            self.ask: 8,
            self.leave: 5,
            self.bad: 3,
            self.constrain: 3,
            self.see: 2,
            self.unload: 1,
            self.reload: 1,
            self.look: 2,
        }
        self._kinds = kinds | ({self.draw: 1} if has_pictures else {})

    def wish(self) -> Wish:
        """The next request."""
        (kind,) = self._random.choices(list(self._kinds), list(self._kinds.values()))
        return kind()

    def _body(self, **fields: Any) -> dict[str, Any]:
        options = {"num_predict": self._random.choice((1, 20, 60)), **fields.pop("options", {})}
        prompt, stream = self._random.choice(QUESTIONS), self._random.random() < 0.6
        return {"model": "zoo-think", "prompt": prompt, "stream": stream, "options": options, **fields}

    def ask(self) -> Wish:
        """A question, thinking or not."""
        return Wish("ask", self._body(think=self._random.choice((True, False)), logprobs=self._random.random() < 0.2))

    def leave(self) -> Wish:
        """A question whose client goes away: in the queue, while loading, reading the prompt, writing."""
        prompt = self._random.choice(("Hello", "word " * 900))
        seconds = self._random.choice((0.0, 0.01, 0.1, 0.5, 2.0))
        return Wish("leave", self._body(prompt=prompt, options=ENDLESS), leaves_after=seconds)

    def bad(self) -> Wish:
        """What no server should take."""
        return Wish("bad", self._random.choice(BAD))

    def constrain(self) -> Wish:
        """An answer in a format."""
        return Wish("format", self._body(format=SCHEMA, stream=False, options={"num_predict": 200}), fits=_holds_json)

    def see(self) -> Wish:
        """A question about a picture."""
        return Wish("see", self._body(model="zoo-vision", images=[self._picture]))

    def draw(self) -> Wish:
        """A picture, sometimes left alone."""
        body = {"model": "zoo-shapes", "prompt": "a red circle", "width": 64, "height": 64, "steps": 6, "stream": False}
        return Wish("draw", body, leaves_after=self._random.choice((None, None, 0.3)))

    def unload(self) -> Wish:
        """A model sent away."""
        return Wish("unload", {"model": self._random.choice(("zoo-think", "zoo-vision")), "keep_alive": 0})

    def reload(self) -> Wish:
        """A context that may need another load."""
        return Wish("reload", self._body(options={"num_ctx": self._random.choice((512, 1024, 2048))}))

    def look(self) -> Wish:
        """A route that only tells."""
        return Wish("show", {"model": "zoo-think"}, path="/api/show")


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


async def live(url: str, crowd: Crowd, tally: Tally, end: float) -> None:
    """One client, until the time is up; now and then with a new connection."""
    while time.monotonic() < end:
        async with aiohttp.ClientSession(url) as session:
            for _ in range(20):
                if time.monotonic() < end:
                    await fulfil(session, crowd.wish(), tally)


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
            for model in load["models"]:
                await session.post("/api/generate", json={"model": model["name"], "keep_alive": 0})
            await asyncio.sleep(0.2)
    return False


async def num_left_open(server: Server, files_before: int) -> int:
    """Files that are open beyond those before, once the last connections had their time to close."""
    for _ in range(int(QUIET_DEADLINE / 0.2)):
        if server.process.num_fds() <= files_before:
            break
        await asyncio.sleep(0.2)
    return int(server.process.num_fds()) - files_before


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
    files_before, tally, begun = server.process.num_fds(), Tally(), time.monotonic()
    end = begun + arguments.minutes * 60
    crowds = [Crowd(arguments.seed + number, has_pictures=has_pictures) for number in range(arguments.clients)]
    async with background(watch_memory(server, tally), kill_engines(server, arguments.seed, tally, end)):
        await asyncio.gather(*(live(server.url, crowd, tally, end) for crowd in crowds))
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
