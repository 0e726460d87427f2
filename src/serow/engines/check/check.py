"""Whether an engine may run a model: every set of flags that is worth it is tried and measured, beside the wheel."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import msgspec

from serow.engines.attention import settled
from serow.engines.base import LoadRequest, TextRunner
from serow.engines.check.baseline import NUM_TEXTS, Baseline, listen
from serow.engines.check.checks import Check
from serow.engines.check.speed import medians, race
from serow.engines.check.trials import TRIALS, Bench, within
from serow.engines.kinds import DEFAULT_FLAGS, WHEEL, Engine, Feature, FlagSet
from serow.engines.llamacpp.params import describe
from serow.engines.llamacpp.runner import LlamaRunner
from serow.engines.llamacpp.spec import batch_size, physical_cores
from serow.errors import EngineError, RequestError
from serow.options import LoadOptions
from serow.settings import Settings
from serow.store.model import Model
from serow.system.load import OtherLoad

# What is tried, None for the wheel itself; how many of how many steps are done.
Tell = Callable[[FlagSet | None, int, int], None]

_ROUNDS = 3  # of races
NUM_STEPS = len(TRIALS) + _ROUNDS  # of a set of flags
LONGEST = 600.0  # seconds for a model, where nobody says otherwise; a quiet machine takes four or five minutes
_HANGS = 60.0  # seconds without progress, after which an engine is given up
_LONGEST_TRIAL = 10  # times as long may a whole trial take
_SMALLEST_CONTEXT = 512  # tokens; one prompt fills it, so it is kept small
_BATCHES = 4  # that a context holds
_MANY_THREADS = 4  # so many may be more than decoding has a use for


class Unfinished(EngineError):
    """The time was over before everything was tried; what came until then holds."""


async def check(
    engine: Engine, model: Model, settings: Settings, tell: Tell, limit: float = LONGEST
) -> AsyncGenerator[Check, None]:
    """Try an engine with a model: a result for each set of flags, as they come. Failures of the engine are results.

    Raises RequestError for a model that the engine can't be checked with, EngineError when the wheel itself fails, Unfinished
    after `limit` seconds.
    """
    _refuse(engine, model)
    deadline = asyncio.get_running_loop().time() + limit
    patient = replace(settings, stall_timeout=min(settings.stall_timeout, _HANGS))
    request = _request(engine, model, settings)
    tell(None, 0, NUM_TEXTS)
    async with _loaded(replace(request, engine=WHEEL), patient) as wheel:
        async with _until(deadline, limit):
            baseline = await listen(wheel, _batch(request), lambda done: tell(None, done, NUM_TEXTS))
        results: list[Check] = []
        for flags in _worth_a_try(request, results, settings):
            asked = replace(request, flags=flags, num_parallel=flags.num_parallel)
            async with _until(deadline, limit):
                tried = await _try(asked, wheel, baseline, patient, tell)
            results.append(msgspec.structs.replace(tried, wheel_flags=request.flags))
            yield results[-1]


@asynccontextmanager
async def _until(deadline: float, limit: float) -> AsyncIterator[None]:
    """End what is done inside when the loop's clock says so; raises Unfinished."""
    try:
        async with asyncio.timeout_at(deadline) as bound:
            yield
    except TimeoutError:
        if not bound.expired():
            raise
        raise Unfinished(f"not everything was tried within {limit:g} seconds") from None


def _refuse(engine: Engine, model: Model) -> None:
    """Raise RequestError when there is nothing to check."""
    name = model.name.display_shortest
    if engine == WHEEL:
        raise RequestError("the wheel is what other engines are measured by", hint="check one of them: serow engine check ik")
    if model.is_image:
        raise RequestError(f"{name} draws pictures; engines are for language models")
    if model.tokenizer is not None:
        raise RequestError(f"{name} runs on vLLM; engines that are checked are for GGUF models")
    if model.projector and not engine.can(frozenset({Feature.VISION})):
        raise RequestError(f"the engine {engine.name} can't {Feature.VISION}, and {name} does", hint="it runs on the wheel")


def _request(engine: Engine, model: Model, settings: Settings) -> LoadRequest:
    """The engine with the default flags as they are set, and a context that takes several batches."""
    flags = settled(settings, model)(DEFAULT_FLAGS)
    request = LoadRequest(model, LoadOptions(num_thread=settings.num_thread), flags.num_parallel, engine, flags)
    num_ctx = max(_BATCHES * _batch(request), _SMALLEST_CONTEXT)
    options = LoadOptions(num_thread=settings.num_thread, num_ctx=min(num_ctx, model.context_length or num_ctx))
    return replace(request, options=options)


def _worth_a_try(request: LoadRequest, results: Sequence[Check], settings: Settings) -> Iterator[FlagSet]:
    """The flag sets of the engine; then the fastest with half as many threads, again and again, as long as that is faster.

    `results` grows by one for each that was tried. Decoding waits for the memory: threads beyond those that use all its
    bandwidth only wait for one another.
    """
    next_to_try = partial(request.engine.kind.next_to_try, has_draft=request.model.can_be_guessed_for)
    while flags := next_to_try({result.flags: result.passed for result in results}, settled(settings, request.model)):
        yield flags
    fastest, num_thread = max(results, key=lambda result: result.speedup), physical_cores()
    if request.options.num_thread or not fastest.passed:
        return
    while num_thread >= _MANY_THREADS:
        num_thread //= 2
        yield msgspec.structs.replace(fastest.flags, num_thread=num_thread)
        if results[-1].speedup <= fastest.speedup:
            return
        fastest = results[-1]


def _batch(request: LoadRequest) -> int:
    return batch_size(describe(request), has_gpu=bool(request.engine.has_gpu))


async def _try(request: LoadRequest, wheel: TextRunner, baseline: Baseline, settings: Settings, tell: Tell) -> Check:
    """All trials with one set of flags, then its speed."""
    begun = ""
    try:
        tell(request.flags, 0, NUM_STEPS)
        async with _loaded(request, settings) as runner:
            bench = Bench(request, wheel, runner, settings.stall_timeout / 2, baseline)
            for done, (name, trial) in enumerate(TRIALS.items(), 1):
                begun = name
                async with within(_LONGEST_TRIAL * settings.stall_timeout, "it was not done"):
                    await trial(bench)
                tell(request.flags, done, NUM_STEPS)
            begun, races, others = "speed", [], OtherLoad()
            for number in range(_ROUNDS):
                races.append(await race(wheel, runner, baseline, number))
                tell(request.flags, len(TRIALS) + number + 1, NUM_STEPS)
            disturbance = others.share
        for layers in _placements(request):
            begun = f"with {layers} of {request.model.layers.count} layers on devices"
            await _try_placed(request, layers, wheel, baseline, settings)
    except (EngineError, RequestError) as error:
        if not wheel.is_alive:
            raise
        return Check.of(request.engine, request.flags, request.model, reason=f"{begun}: {error}" if begun else str(error))
    measured = medians(races)
    return Check.of(
        request.engine,
        request.flags,
        request.model,
        speeds=measured.engine,
        wheel=measured.wheel,
        disturbance=disturbance,
    )


def _placements(request: LoadRequest) -> tuple[int, ...]:
    """How many layers devices hold at other times than when they hold all: some, and none."""
    count = request.model.layers.count
    return (count // 2, 0) if request.engine.has_gpu and count > 1 else ()


async def _try_placed(request: LoadRequest, layers: int, wheel: TextRunner, baseline: Baseline, settings: Settings) -> None:
    """The texts once more with so many layers on devices; raises EngineError."""
    placed = replace(request, options=msgspec.structs.replace(request.options, num_gpu=layers))
    async with _loaded(placed, settings) as runner:
        bench = Bench(placed, wheel, runner, settings.stall_timeout / 2, baseline)
        async with within(_LONGEST_TRIAL * settings.stall_timeout, "it was not done"):
            await TRIALS["texts"](bench)


@asynccontextmanager
async def _loaded(request: LoadRequest, settings: Settings) -> AsyncIterator[TextRunner]:
    """The model in an engine, while the context lasts."""
    runner = LlamaRunner(request, settings)
    await runner.load()
    try:
        yield runner
    finally:
        await runner.close()
