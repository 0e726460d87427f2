"""The flow of every request to a model: an Ask goes in, Events come out. Read this first.

1. `store.find`: the name becomes a Model
2. checks that need the model; pictures decoded; `format` compiled to a grammar: a Task
3. `scheduler.lease`: a place in a running engine, after the queue and the load
4. `text.answer`, `picture.answer` or `embedding.embed`: events
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import cast

from serow.constraints import Constraints, Verdict
from serow.engines.base import ImageRunner, TextRunner
from serow.engines.remote.vocabulary import CLIENT
from serow.errors import Incapable, LoadError, ModelFileError, ModelNotFound
from serow.images import MAX_PIXELS, Pictures
from serow.inference import picture, text
from serow.inference.ask import Ask, Inputs, Nothing, Picture
from serow.inference.awaited import Awaited
from serow.inference.calling import Toolbox
from serow.inference.embedding import embed
from serow.inference.events import Done, Event, Usage, Vectors
from serow.inference.task import Task
from serow.inference.timeline import Timeline
from serow.inference.tokenizers import Tokenizers
from serow.options import LoadOptions, Options, resolve_options
from serow.prompt.templates import Rendering, Templates
from serow.scheduler.resident import Demand
from serow.scheduler.scheduler import Lease, Scheduler
from serow.store.model import Model
from serow.store.name import Name
from serow.store.store import Store
from serow.workers.pool import Pool

NUM_RETRIES = 3  # a finished text that fails its relaxed schema is sampled again so often


class Inference:
    """Answers Asks with the models of a store, on the engines of a scheduler; a pool does what clients decide."""

    def __init__(
        self,
        store: Store,
        scheduler: Scheduler,
        pool: Pool,
        max_pixels: int = MAX_PIXELS,
        tokenizers: Tokenizers | None = None,
    ) -> None:
        self._store = store
        self._scheduler = scheduler
        self._tokenizers = tokenizers
        self._pool = pool
        self._constraints = Constraints(pool)
        self._templates = Templates(pool)
        self._toolbox = Toolbox(self._constraints, self._templates)
        self._pictures = Pictures(pool, max_pixels)

    async def answer(self, ask: Ask, client: str = "", timeline: Timeline | None = None) -> AsyncGenerator[Event, None]:
        """Yield the events of one answer, `Done` or `Rendered` last.

        `client` names who asks, for a fair queue; `timeline` is filled in on the way. Raises SerowError, before the first
        event for what is the Ask's fault. What is not streamed may be sampled again before its first event.
        """
        task = await self._task(ask, client, timeline or Timeline())
        async with aclosing(self._flow(task)) as events:
            async for event in events:
                yield event

    async def _task(self, ask: Ask, client: str, timeline: Timeline) -> Task:
        model = await self._model(ask)
        options = resolve_options(ask.fallbacks, model.parameters, ask.options)
        timeline.model = model.name.display_shortest
        return Task(ask, model, options, client, timeline, ask.warnings, rendering=Rendering(self._templates, client))

    async def _model(self, ask: Ask) -> Model:
        """The model that is named; one that is only to be unloaded needs its files no more."""
        try:
            model = await self._store.find(ask.model)
            if model.refusal:
                raise ModelFileError(model.refusal)
        except (ModelNotFound, ModelFileError):
            if not (ask.model and ask.is_unload):
                raise
            name = Name.parse(ask.model)
            loaded = next((each.model for each in self._scheduler.loaded() if each.model.name == name), None)
            if loaded is None:
                raise
            return loaded
        return model

    def _flow(self, task: Task) -> AsyncGenerator[Event, None]:
        _check_kind(task)
        match task.ask.prompt:
            case Nothing():
                return self._load_or_unload(task)
            case Inputs() as inputs:
                return self._embed(task, inputs)
            case _ if task.model.is_image:
                return self._draw(task)
            case _:
                return self._write(task)

    async def count(self, ask: Ask, client: str = "") -> int:
        """How many tokens the prompt of an Ask has: what the usage of its answer would say."""
        task = await self._task(ask, client, Timeline())
        _check_kind(task)
        task = await self._prepared(task)
        if self._tokenizers is not None and not ask.has_pictures and task.model.tokenizer is None:
            with suppress(LoadError):  # a vocabulary that this can't be done with: the whole model counts
                async with self._tokenizers.of(task.model) as runner:
                    return await text.count(task, runner)
        async with self._lease(task) as lease:
            return await text.count(task, cast(TextRunner, lease.runner))

    async def _prepared(self, task: Task) -> Task:
        decode = partial(self._pictures.decode, client=task.client)
        if task.model.is_image:
            return await picture.prepare(task, decode)
        return await text.prepare(task, decode, self._constraints)

    @asynccontextmanager
    async def _lease(self, task: Task) -> AsyncIterator[Lease]:
        options = picture.load_options(task.options) if task.model.is_image else task.options.load_options
        task.timeline.ask()
        demand = Demand(task.model, options, task.needs, alone=task.options.deterministic)
        async with self._scheduler.lease(demand, task.ask.keep_alive, task.client) as lease:
            task.timeline.place(lease.load_duration)
            CLIENT.set(task.client)  # in the task of this request, and with it gone
            with self._pool.giving_way(task.client):
                yield lease

    async def _load_or_unload(self, task: Task) -> AsyncGenerator[Event, None]:
        """Nothing is asked but that the model be in memory, or not."""
        if task.ask.is_unload:
            if task.model.is_remote:
                yield Done(reason="unload", warnings=[*task.warnings, "an engine at an address is not unloaded from here"])
                return
            await self._scheduler.unload(task.model)
            if self._tokenizers is not None:
                await self._tokenizers.unload(task.model)
            yield Done(reason="unload", warnings=list(task.warnings))
            return
        if task.ask.purpose != "embed":
            task = await self._prepared(task)
        async with self._lease(task) as lease:
            total_duration = time.perf_counter_ns() - task.started
            warnings = [*task.warnings, *lease.notices.look()]
            yield Done(reason="load", total_duration=total_duration, load_duration=lease.load_duration, warnings=warnings)

    async def _write(self, task: Task) -> AsyncGenerator[Event, None]:
        task = await self._prepared(task)
        if task.ask.render_only:
            async with self._lease(task) as lease:
                yield await text.render(task, cast(TextRunner, lease.runner))
            return
        is_final = task.ask.stream or task.constraint is None
        async with aclosing(self._text(task) if is_final else self._fitting(task)) as events:
            async for event in events:
                yield event

    async def _text(self, task: Task) -> AsyncGenerator[Event, None]:
        async with (
            self._lease(task) as lease,
            aclosing(
                text.answer(_told(task, lease), cast(TextRunner, lease.runner), lease.load_duration, self._toolbox)
            ) as events,
        ):
            async for event in events:
                yield event

    async def _fitting(self, task: Task) -> AsyncGenerator[Event, None]:
        """An answer that nobody reads before its end; sampled again while it fails what could not be enforced in full."""
        judge, verdicts = task.judge, list[Verdict]()

        async def judged(text: str, is_cut: bool) -> Verdict:
            assert judge is not None
            verdicts.append(await judge(text, is_cut))
            return verdicts[-1]

        task = replace(task, judge=judged)
        for attempt in range(NUM_RETRIES + 1):
            found = [event async for event in self._text(task.again(attempt) if attempt else task)]
            last = found[-1]
            fails = isinstance(last, Done) and last.format_valid is False and last.reason == "stop" and not last.stopping_word
            if not fails or not verdicts[-1].is_known:
                break
        for event in found:
            yield event

    async def _draw(self, task: Task) -> AsyncGenerator[Event, None]:
        task = await self._prepared(task)
        async with Awaited(self._lease(task)) as place:
            async for status in place.told(partial(self._status, task)):
                yield picture.before(task, status)
            lease = await place.entered()
            runner = cast(ImageRunner, lease.runner)
            async with aclosing(picture.answer(_told(task, lease), runner, lease.load_duration)) as events:
                async for event in events:
                    yield event

    def _status(self, task: Task) -> str:
        """What a request without a place waits for."""
        loaded = next((each for each in self._scheduler.loaded() if each.model.digest == task.model.digest), None)
        if loaded is None:
            return "loading the model"
        return f"waiting for a place, {loaded.num_waiting} in the queue" if loaded.num_waiting else "waiting for a place"

    async def _embed(self, task: Task, inputs: Inputs) -> AsyncGenerator[Event, None]:
        async with self._lease(task) as lease:
            task, runner = _told(task, lease), cast(TextRunner, lease.runner)
            num_ctx = min(task.options.num_ctx or lease.num_ctx, lease.num_ctx)
            found = await embed(inputs, task.model, runner, num_ctx, truncate=task.ask.truncate)
            yield Vectors(found.embeddings)
            yield Done(
                reason="stop",
                usage=Usage(prompt_eval_count=found.prompt_eval_count),
                total_duration=time.perf_counter_ns() - task.started,
                load_duration=lease.load_duration,
                warnings=[*task.warnings, *_embeds_anyway(task), *_samples_nothing(task), *found.warnings],
            )


def _told(task: Task, lease: Lease) -> Task:
    """The task whose answer says where the model runs, if nobody was told yet."""
    said = lease.notices.take()
    return replace(task, warnings=(*task.warnings, *said)) if said else task


def _embeds_anyway(task: Task) -> list[str]:
    """What is said of a model that is made for something else (EMB-05)."""
    if "embedding" in task.model.capabilities:
        return []
    return [f'"{task.ask.model}" is not made for embedding: a vector is the mean of its last layer']


def _samples_nothing(task: Task) -> list[str]:
    """What is said of options that belong to the sampling of a text."""
    sampling = set(Options.__struct_fields__) - set(LoadOptions.__struct_fields__)
    return [f'option "{name}" was ignored: an embedding does not use it' for name in task.ask.options if name in sampling]


def _check_kind(task: Task) -> None:
    """An embedding model completes nothing, an image model does not talk and no other one draws (RES-08, CHAT-02).

    Any text model embeds, in a child started for it (EMB-05).
    """
    purpose = task.ask.purpose
    if task.ask.is_unload:
        return
    if purpose != "embed" and "embedding" in task.model.capabilities:
        raise Incapable(task.ask.model, purpose)
    if purpose in ("embed", "chat") and task.model.is_image:
        raise Incapable(task.ask.model, "embeddings" if purpose == "embed" else purpose)
    if isinstance(task.ask.prompt, Picture) and not task.model.is_image:
        raise Incapable(task.ask.model, "image generation")
