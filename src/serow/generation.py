"""The flow of POST /api/generate: a validated request in, records out. Read this first.

1. `store.resolve`: the name becomes a Model
2. checks that need the model; pictures decoded; `format` compiled to a grammar
3. `scheduler.lease`: a running engine, or a place in the queue
4. `template.prompt.render`: the prompt's text
5. token ids, cut to the context
6. `completion.complete`: the engine's chunks, thinking before a grammar
7. `answer.Answer`: chunks become records, thinking and answer told apart
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field, replace
from typing import cast

import msgspec

from serow import drawing
from serow.answer import Answer, joined
from serow.api.codec import now
from serow.api.options import resolve_options
from serow.api.types import DebugInfo, GenerateRecord, GenerateRequest, Options
from serow.completion import Completion, complete
from serow.constraints import Constraint, compile_format
from serow.errors import RequestError
from serow.images import decode_images
from serow.parsers.thinking import ThinkingTags
from serow.runner.base import ImageRunner, TextRunner
from serow.scheduler.scheduler import Lease, Scheduler
from serow.settings import Settings
from serow.store.model import Model
from serow.store.store import Store
from serow.template.prompt import render, supports_insert, tags_of
from serow.template.truncation import truncate

NUM_RETRIES = 3  # a finished text that fails its relaxed schema is sampled again so often
_ENGINE_BLOCK = 256  # the engine rounds contexts up to a multiple of it


@dataclass
class Job:
    """One request on its way: what was found out about it before an engine was asked."""

    request: GenerateRequest
    model: Model
    options: Options
    think: bool | str | None
    tags: ThinkingTags | None
    constraint: Constraint | None
    images: list[bytes]
    client: str
    started: int = field(default_factory=time.perf_counter_ns)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prompt:
    """The whole prompt's ids, and what of it the engine gets: ids cut to the context, or text when it holds pictures."""

    text: str
    tokens: list[int]
    engine: list[int] | str
    truncated: int = 0


class Generation:
    """Answers requests with the models of a store, on the engines of a scheduler."""

    def __init__(self, settings: Settings, store: Store, scheduler: Scheduler) -> None:
        self._settings = settings
        self._store = store
        self._scheduler = scheduler

    async def generate(self, request: GenerateRequest, client: str = "") -> AsyncIterator[GenerateRecord]:
        """Yield the records of one answer, the last with `done`; not streamed, that one holds everything.

        `client` names who asks, for a fair queue. Raises SerowError, before the first record for what is the request's fault.
        """
        model = self._store.resolve(request.model)
        job = await self._job(request, model, client)
        if not request.prompt:
            yield await self._load_or_unload(job)
        elif request.debug_render_only and not model.is_image:
            yield await self._rendered(job)
        elif request.stream:
            async with aclosing(self._answer(job)) as records:
                async for record in records:
                    yield record
        else:
            yield await self._whole(job)

    async def _job(self, request: GenerateRequest, model: Model, client: str) -> Job:
        if model.is_image:
            return await self._image_job(request, model, client)
        think = _think(request, model)
        _check(request, model)
        images = await asyncio.to_thread(decode_images, request.images) if request.images else []
        constraint = await asyncio.to_thread(compile_format, request.format) if request.format not in (None, "") else None
        options = resolve_options(model.parameters, request.options)
        tags = None if request.raw and request.think is False else tags_of(model, request)
        job = Job(request, model, options, think, tags, constraint, images, client)
        job.warnings += [*request.warnings, *_unused(request, model), *(constraint.warnings if constraint else ())]
        return job

    async def _image_job(self, request: GenerateRequest, model: Model, client: str) -> Job:
        images = await asyncio.to_thread(drawing.check, request)
        options = resolve_options(model.parameters, request.options)
        warnings = [*request.warnings, *drawing.unused(request)]
        return Job(request, model, options, None, None, None, images, client, warnings=warnings)

    async def _load_or_unload(self, job: Job) -> GenerateRecord:
        if job.request.keep_alive == 0:
            await self._scheduler.unload(job.model)
            return _bare(job, "unload")
        async with self._lease(job):
            return _bare(job, "load")

    def _lease(self, job: Job) -> AbstractAsyncContextManager[Lease]:
        options = drawing.load_options(job.options) if job.model.is_image else job.options.load_options
        return self._scheduler.lease(job.model, options, job.request.keep_alive, job.client)

    async def _rendered(self, job: Job) -> GenerateRecord:
        async with self._lease(job) as lease:
            text = await render(job.model, job.request, job.think, lease.runner)
            before = await lease.runner.detokenize(job.request.context) if job.request.context else ""
        info = DebugInfo(before + text, len(job.images) or msgspec.UNSET)
        return GenerateRecord(model=job.request.model, created_at=now(), response="", done=False, debug_info=info)

    async def _whole(self, job: Job) -> GenerateRecord:
        """The whole answer in one record; sampled again while it fails a schema that could not be enforced in full."""
        record = await joined(self._answer(job))
        for attempt in range(1, NUM_RETRIES + 1):
            if record.format_valid is not False or record.done_reason == "length":
                break
            seed = job.options.seed + attempt if job.options.seed >= 0 else -1
            again = replace(job, options=msgspec.structs.replace(job.options, seed=seed))
            record = await joined(self._answer(again))
        return record

    def _answer(self, job: Job) -> AsyncGenerator[GenerateRecord, None]:
        return self._picture(job) if job.model.is_image else self._text(job)

    async def _picture(self, job: Job) -> AsyncGenerator[GenerateRecord, None]:
        wanted = drawing.image_request(job.request, job.options, job.images)
        async with self._lease(job) as lease:
            records = drawing.draw(
                job.request.model,
                wanted,
                cast(ImageRunner, lease.runner),
                started=job.started,
                load_duration=lease.load_duration,
                warnings=job.warnings,
            )
            async with aclosing(records):
                async for record in records:
                    yield record

    async def _text(self, job: Job) -> AsyncGenerator[GenerateRecord, None]:
        async with self._lease(job) as lease:
            prompt = await self._prompt(job, lease)
            answer = Answer(job.request, job.tags, job.constraint, prompt.text)
            async with aclosing(complete(lease.runner, _completion(job, prompt, lease))) as chunks:
                async for chunk in chunks:
                    record = answer.feed(chunk)
                    if record is not None:
                        yield record
            context = None if job.request.raw else prompt.tokens + await lease.runner.tokenize(answer.text, add_special=False)
            total = time.perf_counter_ns() - job.started
            yield answer.final(total, lease.load_duration, context, prompt.truncated, job.warnings)

    async def _prompt(self, job: Job, lease: Lease) -> Prompt:
        text = await render(job.model, job.request, job.think, lease.runner)
        context = job.request.context
        tokens = context + await lease.runner.tokenize(text, add_special=not context)
        if job.images:
            return Prompt(text, tokens, await _with_media(text, job, lease.runner))
        num_ctx = _num_ctx(job.options, lease)
        if len(tokens) >= num_ctx and not job.request.truncate:
            raise RequestError(f"the prompt has {len(tokens)} tokens, the context holds {num_ctx}: shorten it or raise num_ctx")
        kept, truncated = truncate(tokens, num_ctx, job.options.num_keep, job.options.num_predict)
        if truncated:
            job.warnings.append(f"the prompt was cut by {truncated} of {len(tokens)} tokens to fit a context of {num_ctx}")
        return Prompt(text, tokens, kept, truncated)


def _num_ctx(options: Options, lease: Lease) -> int:
    """The context that holds for this request: what it asks for, rounded up as the engine does, within what is loaded."""
    asked = -(-options.num_ctx // _ENGINE_BLOCK) * _ENGINE_BLOCK
    return min(asked, lease.num_ctx) if asked else lease.num_ctx


def _completion(job: Job, prompt: Prompt, lease: Lease) -> Completion:
    num_predict = job.options.num_predict
    room = _num_ctx(job.options, lease) - len(prompt.engine if isinstance(prompt.engine, list) else prompt.tokens)
    if not job.request.shift:
        num_predict = min(num_predict, room) if num_predict >= 0 else max(room, 0)
    return Completion(
        prompt=prompt.engine,
        options=job.options,
        num_predict=num_predict,
        images=job.images,
        logprobs=job.request.logprobs,
        top_logprobs=job.request.top_logprobs,
        grammar=job.constraint.grammar if job.constraint else "",
        tags=job.tags,
        is_thinking=job.tags is not None and prompt.text.rstrip().endswith(job.tags.opening),
    )


async def _with_media(text: str, job: Job, runner: TextRunner) -> str:
    """Put the engine's marker where `[img-N]` stands; one that the user wrote is taken out."""
    before = await runner.detokenize(job.request.context) if job.request.context else ""
    text = (before + text).replace(runner.media_marker, "")
    for number in range(len(job.images)):
        text = text.replace(f"[img-{number}]", runner.media_marker, 1)
    return text


def _bare(job: Job, done_reason: str) -> GenerateRecord:
    warnings = job.warnings or msgspec.UNSET
    return GenerateRecord(
        model=job.request.model, created_at=now(), response="", done=True, done_reason=done_reason, warnings=warnings
    )


def _think(request: GenerateRequest, model: Model) -> bool | str | None:
    """Absent on a thinking model is true (GEN-14)."""
    if "thinking" in model.capabilities:
        return True if request.think is None else request.think
    if request.think:
        raise RequestError(f'"{request.model}" does not support thinking')
    return request.think


def _check(request: GenerateRequest, model: Model) -> None:
    if request.raw and (request.template or request.system or request.context):
        raise RequestError("raw mode does not support template, system, or context")
    if request.suffix and not supports_insert(model, request):
        raise RequestError(f'"{request.model}" does not support insert')
    if request.images and "vision" not in model.capabilities:
        raise RequestError(f'"{request.model}" does not support images')
    beyond = next((token for token in request.context if not 0 <= token < model.vocab_size), None)
    if beyond is not None:
        raise RequestError(f"context holds the token id {beyond}; the model knows ids from 0 to {model.vocab_size - 1}")


def _unused(request: GenerateRequest, model: Model) -> list[str]:
    """What the request gives and this model has no use for."""
    names = [name for name in ("width", "height", "steps") if getattr(request, name) is not None]
    unused = [f'"{name}" was ignored: "{request.model}" is not an image model' for name in names]
    if request.suffix:
        given = [name for name in ("context", "images", "system") if getattr(request, name)]
        unused += [f'"{name}" was ignored: fill in the middle does not use it' for name in given]
    return unused
