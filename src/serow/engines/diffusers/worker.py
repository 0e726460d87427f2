"""The child that draws: `python -m serow.engines.diffusers.worker`, see `process` and `protocol`."""

import asyncio
import os
import secrets
import sys
import time
import traceback
from collections import deque
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from serow.engines.base import ImageChunk, ImageRequest
from serow.engines.child import Listen, adopt
from serow.engines.diffusers.leaving import Abandoned, Leaving
from serow.engines.diffusers.protocol import FAULT, HEARTBEAT, INTERVAL, Event, Fault, ImageSpec
from serow.errors import EngineError, LoadError, NotEnoughMemory, RequestError, SerowError
from serow.store.pipeline import check_folder

if TYPE_CHECKING:
    from serow.engines.diffusers.pipeline import Pipeline

SPINCOUNT = "10000"  # OpenMP's own 300,000 make a drawing ten times slower beside another busy process
_LONGEST_TRACE = 16 << 10  # characters
_LARGEST_REQUEST = 1 << 30  # bytes; a picture to start from comes as base64 of at most 64 MiB, and there may be several


class Worker:
    """Draws one picture after the other, in the thread that loaded the pipeline, and tells the client of every step."""

    def __init__(self, pipeline: "Pipeline", thread: ThreadPoolExecutor) -> None:
        self._pipeline = pipeline
        self._thread = thread

    async def health(self, _: web.Request) -> web.Response:
        """It answers, so the pipeline is in memory."""
        return web.Response()

    async def draw(self, request: web.Request) -> web.StreamResponse:
        """Send events as they come. A client that leaves has this cancelled, and the drawing ends in the middle of its step."""
        wanted = msgspec.json.decode(await request.read(), type=ImageRequest)
        response = web.StreamResponse()
        await response.prepare(request)
        async with aclosing(self._events(wanted)) as batches:
            async for events in batches:
                await response.write(b"\n".join((*map(msgspec.json.encode, events), b"")) or b"\n")
        return response

    async def _events(self, wanted: ImageRequest) -> AsyncGenerator[list[Event], None]:
        """An event for each step, then the picture or a fault; an empty list when nothing happened for a while.

        What is told is looked for here, now and then: the thread that draws wakes nobody.
        """
        loop, drawing = asyncio.get_running_loop(), _Drawing()
        future = loop.run_in_executor(self._thread, drawing.run, self._pipeline, wanted)
        told_at = loop.time()
        try:
            while not (await asyncio.wait({future}, timeout=INTERVAL))[0]:
                events = drawing.untold()
                if events or loop.time() - told_at > HEARTBEAT:
                    told_at = loop.time()
                    yield events
            yield [*drawing.untold(), self._outcome(future, wanted)]
        finally:
            drawing.leaving.leave()
            future.cancel()

    def _outcome(self, drawing: asyncio.Future[ImageChunk], wanted: ImageRequest) -> Event:
        """The last event. What nobody expected is told by its kind and the part that it came from, the rest goes to the log."""
        error = Abandoned() if drawing.cancelled() else drawing.exception()
        if error is None:
            return Event(chunk=drawing.result())
        if isinstance(error, RequestError):
            return Event(fault=Fault("request", str(error), param=error.param))
        if isinstance(error, NotEnoughMemory):
            return Event(fault=Fault("size", str(error)))
        if shortage := self._pipeline.explain_shortage(error):
            return Event(fault=Fault("memory", shortage))
        if isinstance(error, EngineError):
            return Event(fault=Fault("engine", str(error)))
        part = self._pipeline.part_of(error)
        message = f"the pipeline failed to draw this ({type(error).__name__}{f' in its part {part}' if part else ''})"
        return Event(fault=Fault("engine", message, "" if isinstance(error, Abandoned) else traced(error, wanted)))


class _Drawing:
    """One picture in the making: `run` in the thread, `leaving` ends it from outside."""

    def __init__(self) -> None:
        self.leaving = Leaving()
        self._last = ImageChunk(0, 0)
        self._untold: deque[Event] = deque()  # bounded by the number of steps

    def run(self, pipeline: "Pipeline", wanted: ImageRequest) -> ImageChunk:
        """Draw; returns the last chunk, the others are told on the way."""
        started = time.perf_counter_ns()
        try:
            images, warnings = pipeline.draw(wanted, self._on_step)
        finally:
            self.leaving.over()
        duration = time.perf_counter_ns() - started
        return ImageChunk(self._last.completed, self._last.total, images, warnings, duration)

    def untold(self) -> list[Event]:
        """The steps since the last call; from any thread."""
        return [self._untold.popleft() for _ in range(len(self._untold))]

    def _on_step(self, completed: int, total: int, preview: bytes | None) -> None:
        self.leaving.check()
        self._last = ImageChunk(completed, total, preview=preview)
        self._untold.append(Event(chunk=self._last))


def traced(error: BaseException, wanted: ImageRequest) -> str:
    """Where an exception came from, for the log: without what the request says."""
    text = "".join(traceback.format_exception(error))
    for secret in (wanted.prompt, wanted.negative_prompt):
        text = text.replace(secret, "…") if secret else text
    return text[-_LONGEST_TRACE:]


def _asks_for(key: str) -> Middleware:
    """Middleware: 401 without the key."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {key}".encode()):
            return web.Response(status=401)
        return await handler(request)

    return check


async def _serve(worker: Worker, listen: Listen) -> None:
    app = web.Application(client_max_size=_LARGEST_REQUEST, middlewares=[_asks_for(listen.key)])
    app.add_routes([web.get("/health", worker.health), web.post("/draw", worker.draw)])
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, listen.host, listen.port) if listen.port else web.UnixSite(runner, listen.host)
    await site.start()
    await asyncio.Event().wait()


def _load(spec: ImageSpec) -> "Pipeline":
    """Load the pipeline; raises ModelFileError or LoadError with a sentence, what is behind it goes to stderr before."""
    count = check_folder(Path(spec.folder))
    from serow.engines.diffusers import load

    try:
        return load.load(spec, count)
    except load.LOAD_ERRORS as error:
        traceback.print_exception(error)
        raise LoadError(load.explain_load(error)) from error


def main() -> None:
    """Draw until stdin ends."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TQDM_DISABLE="1")
    os.environ.setdefault("GOMP_SPINCOUNT", SPINCOUNT)
    listen, spec = adopt(ImageSpec)
    # All of torch in one thread: for a second one OpenMP starts more threads than there are cores, and everything takes half
    # as long again.
    thread = ThreadPoolExecutor(max_workers=1)
    try:
        pipeline = thread.submit(_load, spec).result()
    except SerowError as error:
        sys.exit(f"{FAULT}{error}")
    asyncio.run(_serve(Worker(pipeline, thread), listen))


if __name__ == "__main__":
    main()
