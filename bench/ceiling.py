"""What Serow's own processes pass on from an engine at an address, one Serow and two on one port.

    python -m bench.ceiling

Real processes: an engine that says tokens at a set pace speaks vLLM's HTTP to Serow's adapter, a client counts, and the CPU
time of Serow's processes is read.
"""

import asyncio
import itertools
import json
import logging
import multiprocessing
import socket
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import uvicorn
import uvloop
from aiohttp import web

from serow.server.app import create_app
from serow.server.connection import bounded
from serow.settings import Settings
from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.store import Store
from tests.support import vllm

# Serows, streams, tokens a second of each stream
CASES = ((1, 1, 100), (1, 64, 100), (1, 256, 50), (1, 1000, 10), (1, 2000, 5), (2, 256, 50), (2, 1000, 10))
DURATION = 8  # seconds of each stream
NUM_CLIENTS = 16  # with an address each: what one may have prepared at a time is bounded


async def _complete(request: web.Request) -> web.StreamResponse:
    """Server-sent events as vLLM sends them, one token each, at a pace."""
    asked = await request.json()
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    choice = {"index": 0, "text": "w", "logprobs": None, "finish_reason": None, "stop_reason": None, "token_ids": [119]}
    event = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": vllm.MODEL, "choices": [choice]}
    line = f"data: {json.dumps(event)}\n\n".encode()
    due = time.perf_counter()
    for _ in range(asked["max_tokens"]):
        await answer.write(line)
        due += 1 / request.app["rate"]
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    usage = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": asked["max_tokens"]}
    for last in ({"choices": [{"index": 0, "text": "", "finish_reason": "length"}]}, {"choices": [], "usage": usage}):
        await answer.write(f"data: {json.dumps(last)}\n\n".encode())
    await answer.write(b"data: [DONE]\n\n")
    return answer


async def _models(_: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": vllm.MODEL, "max_model_len": 1 << 20}]})


def run_engine(port: int, rate: float) -> None:
    """The engine's process."""
    logging.disable()
    app = web.Application()
    app["rate"] = rate
    app.router.add_get("/v1/models", _models)
    app.router.add_post("/v1/completions", _complete)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=port, print=None)


def run_server(models: str, port: int) -> None:
    """One Serow of several on the port."""
    logging.disable()
    settings = Settings(models=Path(models), num_parallel=4096, slot_cache=0, max_queue=4096, max_client_connections=4096)
    config = uvicorn.Config(create_app(settings), log_level="critical", access_log=False, http=bounded(settings), ws="none")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", port))
        uvloop.run(uvicorn.Server(config).serve([listener]))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _store(root: Path, port: int) -> Store:
    store = Store(root / "models")
    folder = vllm.write_folder(root / "tokenizer")
    files = {path.name: store.blobs.put(path.read_bytes())[0] for path in sorted(folder.iterdir())}
    recipe = Recipe(files=files, remote_host=f"vllm://127.0.0.1:{port}", remote_model=vllm.MODEL)
    for _ in store.create(Name.parse("bench"), recipe):
        pass
    return store


@asynccontextmanager
async def serowing(store: Store, num_servers: int) -> AsyncGenerator[tuple[str, list[psutil.Process]], None]:
    """So many Serows on one port, each a process: where, and they."""
    port, context = _free_port(), multiprocessing.get_context("spawn")
    started = [context.Process(target=run_server, args=(str(store.root), port)) for _ in range(num_servers)]
    for each in started:
        each.start()
    try:
        await _listening(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}", [psutil.Process(each.pid) for each in started]
    finally:
        for each in started:
            each.terminate()
            each.join()


@asynccontextmanager
async def running(num_servers: int, rate: float) -> AsyncGenerator[tuple[str, list[psutil.Process]], None]:
    """An engine and so many Serows on one port."""
    with tempfile.TemporaryDirectory() as root:
        port = _free_port()
        engine = multiprocessing.get_context("spawn").Process(target=run_engine, args=(port, rate), daemon=True)
        engine.start()
        try:
            await _listening(f"http://127.0.0.1:{port}")
            async with serowing(_store(Path(root), port), num_servers) as found:
                yield found
        finally:
            engine.terminate()
            engine.join()


async def _listening(url: str) -> None:
    async with asyncio.timeout(60), aiohttp.ClientSession(url) as session:
        while True:
            try:
                async with session.get("/api/version"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


def _client(url: str, number: int) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, local_addr=(f"127.0.1.{number + 1}", 0))
    return aiohttp.ClientSession(url, connector=connector)


async def _stream(session: aiohttp.ClientSession, num_predict: int) -> float:
    """Seconds to the first token."""
    body = {"model": "bench", "prompt": "Hi", "raw": True, "options": {"num_predict": num_predict}}
    asked, first = time.perf_counter(), 0.0
    async with session.post("/api/generate", json=body) as answer:
        assert answer.status == 200, await answer.text()
        while await answer.content.readany():
            first = first or time.perf_counter() - asked
    return first


async def measure(num_servers: int, num_streams: int, rate: float, num_predict: int) -> str:
    """A row of the table."""
    async with running(num_servers, rate) as (url, processes), AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(_client(url, number)) for number in range(NUM_CLIENTS)]
        await asyncio.gather(*(_stream(session, 2) for session in sessions))
        before, started = _cpu(processes), time.perf_counter()
        streams = zip(itertools.cycle(sessions), range(num_streams), strict=False)
        firsts = sorted(await asyncio.gather(*(_stream(session, num_predict) for session, _ in streams)))
        took, cpu = time.perf_counter() - started, _cpu(processes) - before
        memory = sum(each.memory_info().rss for each in processes) >> 20
    tokens = num_streams * num_predict
    return (
        f"| {num_servers} | {num_streams} | {tokens / took:,.0f} of {num_streams * rate:,.0f} | {cpu / tokens * 1e6:.0f} |"
        f" {firsts[len(firsts) // 2] * 1000:.0f} ms | {firsts[-1] * 1000:.0f} ms | {memory} MB |"
    )


def _cpu(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in processes)


def main() -> None:
    print("| Serows | streams | tokens/s of those that are said | CPU, µs a token | first token, median | last | memory |")
    print("|---|---|---|---|---|---|---|")
    for num_servers, num_streams, rate in CASES:
        print(asyncio.run(measure(num_servers, num_streams, rate, rate * DURATION)), flush=True)


if __name__ == "__main__":
    main()
