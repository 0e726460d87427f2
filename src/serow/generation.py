"""The flow of POST /api/generate: a validated request in, records out. Read this first.

1. `store.resolve`: the name becomes a Model
2. checks that need the model; pictures decoded; `format` compiled to a grammar: a Job
3. `scheduler.lease`: a place in a running engine, after the queue and the load
4. `writing.write` or `drawing.draw`: prompt, chunks, records
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TypeVar, cast

import msgspec

from serow import drawing, writing
from serow.answer import joined
from serow.api.codec import now
from serow.api.types import GenerateRecord, GenerateRequest
from serow.constraints import compile_format
from serow.errors import RequestError
from serow.images import MAX_PIXELS, decode_images
from serow.job import Job
from serow.options import PICTURE_OPTIONS, resolve_options
from serow.prompt.render import supports_insert, tags_of
from serow.runner.base import LARGEST_SEED, RANDOM_SEED, ImageRunner, TextRunner
from serow.scheduler.resident import Demand
from serow.scheduler.scheduler import Lease, Scheduler
from serow.store.model import Model
from serow.store.store import Store
from serow.timeline import Timeline

NUM_DECODERS = 2  # a picture of 50 million pixels takes a gigabyte while it is decoded
NUM_RETRIES = 3  # a finished text that fails its relaxed schema is sampled again so often
T = TypeVar("T")


class Generation:
    """Answers requests with the models of a store, on the engines of a scheduler."""

    def __init__(self, store: Store, scheduler: Scheduler, max_pixels: int = MAX_PIXELS) -> None:
        self._store = store
        self._scheduler = scheduler
        self._max_pixels = max_pixels
        self._decoders = ThreadPoolExecutor(NUM_DECODERS, thread_name_prefix="pictures")

    async def generate(
        self, request: GenerateRequest, client: str = "", timeline: Timeline | None = None
    ) -> AsyncIterator[GenerateRecord]:
        """Yield the records of one answer, the last with `done`; not streamed, that one holds everything.

        `client` names who asks, for a fair queue; `timeline` is filled in on the way. Raises SerowError, before the first
        record for what is the request's fault.
        """
        job = await self._job(request, self._store.resolve(request.model), client)
        job = replace(job, timeline=timeline or job.timeline)
        job.timeline.model = job.model.name.display_shortest
        if not request.prompt and (job.model.is_image or not request.is_insert):
            yield await self._load_or_unload(job)
        elif request.debug_render_only and not job.model.is_image:
            async with self._lease(job) as lease:
                yield await writing.rendered(job, cast(TextRunner, lease.runner))
        elif request.stream:
            async with aclosing(self._answer(job)) as records:
                async for record in records:
                    yield record
        else:
            yield await self._whole(job)

    async def _job(self, request: GenerateRequest, model: Model, client: str) -> Job:
        options = resolve_options(model.parameters, request.options)
        if model.is_image:
            images = await self._decode(drawing.check, request)
            return Job(request, model, options, client, images, [*request.warnings, *drawing.unused(request)])
        _check(request, model)
        think = _think(request, model)
        images = await self._decode(decode_images, request.images) if request.images and not request.is_insert else []
        constraint = await asyncio.to_thread(compile_format, request.format) if request.format not in (None, "") else None
        tags = None if request.raw and request.think is False else tags_of(model, request)
        warnings = [*request.warnings, *_unused(request, model), *(constraint.warnings if constraint else ())]
        return Job(request, model, options, client, images, warnings, think, tags, constraint)

    async def _decode(self, decode: Callable[[T, int], list[bytes]], source: T) -> list[bytes]:
        """Run what decodes pictures, few at a time: their memory is bounded by that."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, decode, source, self._max_pixels)

    @asynccontextmanager
    async def _lease(self, job: Job) -> AsyncIterator[Lease]:
        options = drawing.load_options(job.options) if job.model.is_image else job.options.load_options
        job.timeline.ask()
        demand = Demand(job.model, options, job.needs, alone=job.options.deterministic)
        async with self._scheduler.lease(demand, job.request.keep_alive, job.client) as lease:
            job.timeline.place(lease.load_duration)
            yield lease

    async def _load_or_unload(self, job: Job) -> GenerateRecord:
        if job.request.keep_alive == 0:
            await self._scheduler.unload(job.model)
            return _bare(job, "unload")
        async with self._lease(job):
            return _bare(job, "load")

    async def _answer(self, job: Job) -> AsyncGenerator[GenerateRecord, None]:
        async with self._lease(job) as lease:
            if job.model.is_image:
                answer = drawing.draw(job, cast(ImageRunner, lease.runner), lease.load_duration)
            else:
                answer = writing.write(job, cast(TextRunner, lease.runner), lease.load_duration)
            async with aclosing(answer) as records:
                async for record in records:
                    yield record

    async def _whole(self, job: Job) -> GenerateRecord:
        """The whole answer in one record; sampled again while it fails a schema that could not be enforced in full."""
        record = await joined(self._answer(job))
        for attempt in range(1, NUM_RETRIES + 1):
            if record.format_valid is not False or record.done_reason == "length":
                break
            seed = job.options.seed + attempt if job.options.seed >= 0 else -1
            options = msgspec.structs.replace(job.options, seed=seed)
            record = await joined(self._answer(replace(job, options=options, warnings=[*job.warnings])))
        return record


def _bare(job: Job, done_reason: str) -> GenerateRecord:
    """A record without text: the model was loaded or unloaded."""
    warnings = job.warnings or msgspec.UNSET
    name = job.request.model
    return GenerateRecord(model=name, created_at=now(), response="", done=True, done_reason=done_reason, warnings=warnings)


def _think(request: GenerateRequest, model: Model) -> bool | str | None:
    """Absent on a thinking model is true (GEN-14)."""
    if "thinking" in model.capabilities:
        return True if request.think is None else request.think
    if request.think:
        raise RequestError(f'"{request.model}" does not support thinking')
    return request.think


def _check(request: GenerateRequest, model: Model) -> None:
    is_unload = not request.prompt and request.keep_alive == 0
    if "completion" not in model.capabilities and not is_unload:
        raise RequestError(f'"{request.model}" does not support generate')
    if request.raw and (request.template or request.system or request.context):
        raise RequestError("raw mode does not support template, system, or context")
    if request.suffix and not supports_insert(model, request):
        raise RequestError(f'"{request.model}" does not support insert')
    if request.images and not request.is_insert and "vision" not in model.capabilities:
        raise RequestError(f'"{request.model}" does not support images')
    beyond = next((token for token in request.context if not 0 <= token < model.vocab_size), None)
    if beyond is not None:
        raise RequestError(f"context holds the token id {beyond}; the model knows ids from 0 to {model.vocab_size - 1}")


def _unused(request: GenerateRequest, model: Model) -> list[str]:
    """What the request gives and a language model, or fill in the middle, has no use for."""
    names = [name for name in ("width", "height", "steps") if getattr(request, name) is not None]
    unused = [f'"{name}" was ignored: "{request.model}" is not an image model' for name in names]
    options = [name for name in PICTURE_OPTIONS if name in request.options]
    unused += [f'option "{name}" was ignored: "{request.model}" is not an image model' for name in options]
    seed = request.options.get("seed", model.parameters.get("seed", RANDOM_SEED))
    if not RANDOM_SEED <= seed <= LARGEST_SEED:
        unused.append('option "seed" is used modulo 2^32: the engine takes no larger one')
    if "draft_num_predict" in request.options:
        unused.append('option "draft_num_predict" was ignored: the engine drafts no tokens')
    if request.raw and request.suffix:
        unused.append('"suffix" was ignored: a raw prompt goes to the model as it is')
    if request.is_insert:
        given = [name for name in ("context", "images", "system") if getattr(request, name)]
        unused += [f'"{name}" was ignored: fill in the middle does not use it' for name in given]
    elif request.system and not (request.template or model.template or model.chat_template):
        unused.append(f'"system" was ignored: "{request.model}" has no template that could place it')
    return unused
