"""What a token costs on its way through the server: an engine that computes nothing, streams that are only counted.

    python bench/relay.py                        # /api/generate, 1 and 64 streams
    python bench/relay.py --path /api/chat
    python bench/relay.py --dialects             # what each dialect adds: rounds that take turns, medians

Three processes: the engine says tokens at a set rate, the server passes them on as it does those of llama.cpp, the client
counts lines. CPU time of the server's process for each token, and tokens a second.

Of some 50 µs with one stream the kernel has 20: it wakes the server, hands it the piece, takes the line for the client. The
rest is Python, in caches that others have used meanwhile; with 64 streams one wake-up brings several pieces.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvicorn
import uvloop
from aiohttp import web

from serow.engines.base import LoadRequest
from serow.engines.child import Listen
from serow.engines.llamacpp.runner import LlamaRunner
from serow.engines.stream import AnswerStream, post
from serow.server.app import create_app
from serow.server.connection import bounded
from serow.settings import Settings
from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.store import Store

MODEL = Path(__file__).parents[1] / "tests" / "models" / "zoo" / "lm" / "zoo-think.gguf"
NAME = "bench"
START_DEADLINE = 30.0  # seconds
DIALECTS = ("/api/chat", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
_LOADS = {1: (2000, 10_000), 64: (400, 1000)}  # streams: tokens a second of each, and how many


async def _complete(rate: float, request: web.Request) -> web.StreamResponse:
    """Server-sent events as llama.cpp sends them, one write for each token."""
    asked = await request.json()
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    pause = 1 / rate
    due = time.perf_counter()
    for number in range(1, asked["n_predict"] + 1):
        event = {"content": " word", "tokens": [5], "stop": False, "tokens_predicted": number, "tokens_evaluated": 9}
        await answer.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        due += pause
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    last = {"stop": True, "stop_type": "limit", "tokens_predicted": asked["n_predict"], "timings": {"predicted_ms": 1.0}}
    await answer.write(b"data: " + json.dumps(last).encode() + b"\n\n")
    return answer


def run_engine(path: str, rate: float) -> None:
    """The engine's process, which says so many tokens a second."""
    app = web.Application()
    app.router.add_post("/completion", partial(_complete, rate))
    uvloop.install()
    web.run_app(app, path=path, print=None)


class _Child:
    """Stands in for the engine's process, which runs already."""

    is_alive = True
    size = 1 << 20

    def __init__(self, path: str) -> None:
        self._listen = Listen(path, 0, "")
        self.pid = os.getpid()

    def stream(self, path: str, body: bytes) -> AbstractAsyncContextManager[AnswerStream]:
        return post(self._listen, path, body, START_DEADLINE)

    async def close(self) -> None:
        pass


class Relay(LlamaRunner):
    """The runner of every language model, of whose engine only POST /completion is there."""

    def __init__(self, request: LoadRequest, settings: Settings, path: str) -> None:
        super().__init__(request, settings)
        self._path = path

    async def load(self) -> None:
        self._child = _Child(self._path)  # type: ignore[assignment]

    async def close(self) -> None:
        await self._child.close()

    @property
    def num_ctx(self) -> int:
        return 4096

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        return [1] * len(text)

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return "x" * len(tokens)

    async def apply_template(self, messages: Any, template_kwargs: Any, tools: Any = (), client: str = "") -> str:
        return "prompt"


class _Server(uvicorn.Server):
    """Says where it listens."""

    def __init__(self, config: uvicorn.Config, url: Any) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._url.send(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}")


def run_server(models: str, path: str, url: Any) -> None:
    """The server's process; its port goes through `url`."""

    settings = Settings(models=Path(models), num_parallel=64, slot_cache=0)

    def start(request: LoadRequest) -> Any:
        return Relay(request, settings, path)

    config = uvicorn.Config(
        create_app(settings, start), port=0, log_level="critical", access_log=False, http=bounded(settings), ws="none"
    )
    uvloop.run(_Server(config, url).serve())


def _until_there(path: Path) -> None:
    """Wait for the engine's socket."""
    deadline = time.monotonic() + START_DEADLINE
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the engine did not start")
        time.sleep(0.05)


@asynccontextmanager
async def running(rate: float) -> AsyncGenerator[tuple[str, psutil.Process], None]:
    """Both processes, for a while."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as root:
        store = Store(Path(root) / "models")
        digest, _ = store.blobs.put(MODEL.read_bytes())
        for _ in store.create(Name.parse(NAME), Recipe(files={"model.gguf": digest})):
            pass
        path = f"{root}/engine.sock"
        here, there = context.Pipe()
        engine = context.Process(target=run_engine, args=(path, rate), daemon=True)
        server = context.Process(target=run_server, args=(str(store.root), path, there), daemon=True)
        for each in (engine, server):
            each.start()
        try:
            await asyncio.to_thread(_until_there, Path(path))
            if not await asyncio.to_thread(here.poll, START_DEADLINE):
                raise TimeoutError("the server did not start")
            yield here.recv(), psutil.Process(server.pid)
        finally:
            for each in (server, engine):
                each.terminate()
                each.join()


def _body(path: str, num_predict: int) -> dict[str, Any]:
    said = {"messages": [{"role": "user", "content": "Hi"}]}
    bodies: dict[str, dict[str, Any]] = {
        "/api/generate": {"prompt": "Hi", "raw": True, "options": {"num_predict": num_predict}},
        "/api/chat": {**said, "options": {"num_predict": num_predict}},
        "/v1/completions": {"prompt": "Hi", "max_tokens": num_predict},
        "/v1/chat/completions": {**said, "max_tokens": num_predict, "reasoning_effort": "none"},
        "/v1/responses": {"input": "Hi", "max_output_tokens": num_predict, "reasoning": {"effort": "none"}, "store": False},
        "/v1/messages": {**said, "max_tokens": num_predict},
    }
    return {"model": NAME, "stream": True, **({"think": False} if path.startswith("/api/") else {}), **bodies[path]}


async def _stream(session: aiohttp.ClientSession, path: str, num_predict: int) -> None:
    async with session.post(path, json=_body(path, num_predict)) as answer:
        assert answer.status == 200, await answer.text()
        lines = 0
        while piece := await answer.content.readany():
            lines += piece.count(b"\n")
    assert lines >= num_predict, lines


@asynccontextmanager
async def serving(rate: float) -> AsyncGenerator[tuple[aiohttp.ClientSession, psutil.Process], None]:
    """A client of the server, and the server's process."""
    async with running(rate) as (url, process), aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session, process


async def cost(
    session: aiohttp.ClientSession, process: psutil.Process, path: str, num_streams: int, num_predict: int
) -> tuple[float, float]:
    """Microseconds of CPU for each token, and tokens a second."""
    before, started = sum(process.cpu_times()[:2]), time.perf_counter()
    await asyncio.gather(*(_stream(session, path, num_predict) for _ in range(num_streams)))
    cpu, duration = sum(process.cpu_times()[:2]) - before, time.perf_counter() - started
    return cpu / (num_streams * num_predict) * 1e6, num_streams * num_predict / duration


async def measure(path: str, num_streams: int, rate: float, num_predict: int) -> tuple[float, float]:
    """The cost of one route, warm."""
    async with serving(rate) as (session, process):
        await cost(session, process, path, num_streams, 8)
        return await cost(session, process, path, num_streams, num_predict)


async def compare(num_streams: int, rate: float, num_predict: int, num_rounds: int) -> dict[str, float]:
    """The median cost of each dialect, microseconds of CPU a token."""
    found: dict[str, list[float]] = {path: [] for path in DIALECTS}
    async with serving(rate) as (session, process):
        for number in range(num_rounds + 1):
            for path in DIALECTS:
                cpu, _ = await cost(session, process, path, num_streams, num_predict if number else 8)
                found[path] += [cpu] if number else []
    return {path: statistics.median(each) for path, each in found.items()}


def print_dialects() -> None:
    """A table of what server-sent events cost beside Ollama's lines."""
    print("| route | CPU, µs a token | beside /api/chat |\n|---|---|---|")
    costs = asyncio.run(compare(num_streams=4, rate=400, num_predict=2000, num_rounds=7))
    for path, each in costs.items():
        print(f"| {path} | {each:.1f} | {each - costs['/api/chat']:+.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", default="/api/generate", help="the route (default: /api/generate)")
    parser.add_argument("--dialects", action="store_true", help="compare the dialects")
    parser.add_argument("--streams", type=int, choices=_LOADS, help="only so many (default: each of these)")
    args = parser.parse_args()
    if args.dialects:
        print_dialects()
        return
    print("| streams | CPU, µs a token | tokens/s |\n|---|---|---|")
    for num_streams, (rate, num_predict) in _LOADS.items():
        if args.streams not in (None, num_streams):
            continue
        cpu, speed = asyncio.run(measure(args.path, num_streams, rate, num_predict))
        print(f"| {num_streams} | {cpu:.0f} | {speed:.0f} |", flush=True)


if __name__ == "__main__":
    main()
