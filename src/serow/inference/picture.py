"""The flow of an Ask to an image model: what it asks for, then an event for each step and one with the picture (GEN-18)."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from serow.engines.base import RANDOM_SEED, ImageRequest, ImageRunner
from serow.engines.diffusers import installed
from serow.engines.diffusers.abilities import forms_of
from serow.engines.diffusers.runner import require_packages
from serow.errors import PictureError, RequestError
from serow.inference import events
from serow.inference.ask import Ask, Insert, Nothing, Picture, Raw, Single
from serow.inference.events import Event
from serow.inference.task import DecodeImages, Task
from serow.options import USED_BY_PICTURES, LoadOptions, Options
from serow.picture_schedulers import check_fit
from serow.store.picture_defaults import Hints

LARGEST_SEED = (1 << 64) - 1  # of a picture; torch takes 64 bits
LARGEST_RANDOM = 1 << 32  # short enough to be typed again
_USED = ("model", "prompt", "stream", "images", "options", "keep_alive", "width", "height", "steps")


async def prepare(task: Task, decode: DecodeImages) -> Task:
    """Refuse what no image model can do; decode the picture to start from, if there is one.

    Raises RequestError, also when the packages that draw are not installed.
    """
    require_packages()
    given, mask = _images(task.ask), task.options.mask
    if mask and not given:
        raise RequestError("a mask needs the picture that it belongs to, in images", param="options.mask")
    ready = replace(
        task,
        images=await decode(given) if given else [],
        mask=await _decode_mask(mask, decode) if mask else None,
        warnings=(*task.warnings, *unused(task.ask), *_unused_parts(task)),
    )
    if task.model.picture_hints is not None:
        wanted = None if isinstance(task.ask.prompt, Nothing) else image_request(ready)
        await asyncio.to_thread(_refuse, task.model.picture_hints, wanted)
    return ready


def _refuse(hints: Hints, request: ImageRequest | None) -> None:
    """Refuse what the model's pipeline can't do, before it is loaded, and one that can't be loaded here; None: only this."""
    installed.check(hints)
    if request is None:
        return
    forms = forms_of(hints)
    if forms is not None:
        forms.of(request)
    if request.scheduler and hints.scheduler_kind:
        check_fit(request.scheduler, hints.scheduler_kind)


def _unused_parts(task: Task) -> list[str]:
    """What the model's Modelfile says and a picture has no use for."""
    parts = {"TEMPLATE": task.model.template, "SYSTEM": task.model.system, "MESSAGE": task.model.messages}
    return [
        f'{name} of the Modelfile was ignored: "{task.ask.model}" is an image model' for name, value in parts.items() if value
    ]


async def _decode_mask(mask: str, decode: DecodeImages) -> bytes:
    try:
        return (await decode([mask], as_mask=True))[0]
    except PictureError as error:
        raise PictureError(str(error).replace("image 0", "the mask", 1), param="options.mask") from None


def _images(ask: Ask) -> Sequence[str]:
    return ask.prompt.images if isinstance(ask.prompt, Single | Raw | Picture) else ()


def unused(ask: Ask) -> list[str]:
    """What the Ask gives and a picture has no use for."""
    names = [name for name in ask.given if name not in _USED]
    options = [name for name in ask.options if name not in USED_BY_PICTURES]
    return [
        *(f'"{name}" was ignored: "{ask.model}" is an image model' for name in names),
        *(f'option "{name}" was ignored: "{ask.model}" is an image model' for name in options),
        *(['option "seed" is used modulo 2^64'] if abs(ask.options.get("seed", 0)) > LARGEST_SEED else []),
        *(['option "strength" was ignored: there is no picture to start from'] if _starts_from_nothing(ask) else []),
    ]


def _starts_from_nothing(ask: Ask) -> bool:
    return "strength" in ask.options and not _images(ask)


def load_options(options: Options) -> LoadOptions:
    """What a pipeline is loaded with; the rest is about text and must not load it anew."""
    return LoadOptions(num_gpu=options.num_gpu, main_gpu=options.main_gpu, num_thread=options.num_thread)


def image_request(task: Task) -> ImageRequest:
    """What to draw: the Ask's own numbers over those of its options, these over the Modelfile's and over what is usual.

    A picture that it starts from keeps its size, unless the Ask says another.
    """
    wanted, options = _wanted(task.ask), task.options
    sizes = task.ask.options if task.images else {"width": options.width, "height": options.height}
    usual = {name: default.value for name, default in task.model.picture_defaults.items()}
    usual_sizes = {} if task.images else usual
    return ImageRequest(
        prompt=wanted.prompt,
        seeds=_seeds(options),
        width=wanted.width or sizes.get("width") or _whole(usual_sizes.get("width")),
        height=wanted.height or sizes.get("height") or _whole(usual_sizes.get("height")),
        steps=wanted.steps or options.steps or _whole(usual.get("steps")),
        negative_prompt=options.negative_prompt,
        guidance=_number(usual.get("guidance")) if options.guidance is None else options.guidance,
        images=tuple(task.images),
        strength=options.strength if task.images else None,
        mask=task.mask,
        preview=options.preview,
        adapters=tuple({**dict(task.model.parameters.get("adapters", ())), **dict(options.adapters)}.items()),
        scheduler=options.scheduler,
    )


def _number(value: float | str | None) -> float | None:
    return value if isinstance(value, int | float) else None


def _whole(value: float | str | None) -> int | None:
    return None if (number := _number(value)) is None else int(number)


def _seeds(options: Options) -> tuple[int, ...]:
    """The seed of each picture, one higher than the last one's; where none was given the first is drawn by lot."""
    first = secrets.randbelow(LARGEST_RANDOM) if options.seed == RANDOM_SEED else options.seed
    first = first if -LARGEST_SEED // 2 <= first <= LARGEST_SEED else first & LARGEST_SEED
    return tuple(seed - (1 << 64) if (seed := first + number) > LARGEST_SEED else seed for number in range(options.n))


def _wanted(ask: Ask) -> Picture:
    """The description of the picture, whichever prompt it came as."""
    match ask.prompt:
        case Picture():
            return ask.prompt
        case Single(prompt=str(prompt)) | Raw(prompt=str(prompt)) | Insert(prefix=prompt):
            return Picture(prompt)
        case Nothing():
            return Picture("")
        case _:
            raise RequestError(f'"{ask.model}" is an image model: it draws what one text describes')


def before(task: Task, status: str) -> Event:
    """The event that tells what is waited for."""
    return events.Step(0, (image_request(task).steps or 0) * task.options.n, status=status)


async def answer(task: Task, runner: ImageRunner, load_duration: int) -> AsyncGenerator[Event, None]:
    """Yield an event after each step, then the picture and the end; `load_duration` in ns.

    Closing the iterator stops the drawing after its step. Raises RequestError before the first event, EngineError.
    """
    wanted = image_request(task)
    async with aclosing(runner.draw(wanted)) as chunks:
        async for chunk in chunks:
            if not chunk.images:
                yield events.Step(chunk.completed, chunk.total, chunk.preview)
                continue
            for image, seed in zip(chunk.images, wanted.seeds, strict=True):
                yield events.Picture(image, seed)
            yield events.Done(
                reason="stop",
                total_duration=time.perf_counter_ns() - task.started,
                load_duration=load_duration,
                warnings=[*task.warnings, *chunk.warnings],
            )
