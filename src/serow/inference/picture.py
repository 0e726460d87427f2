"""The flow of an Ask to an image model: what it asks for, then an event for each step and one with the picture (GEN-18)."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from serow.engines.base import RANDOM_SEED, ImageRequest, ImageRunner
from serow.engines.diffusers.runner import require_packages
from serow.errors import RequestError
from serow.inference import events
from serow.inference.ask import Ask, Insert, Nothing, Picture, Raw, Single
from serow.inference.events import Event
from serow.inference.task import DecodeImages, Task
from serow.options import PICTURE_OPTIONS, LoadOptions, Options

_USED = ("model", "prompt", "stream", "images", "options", "keep_alive", "width", "height", "steps")
_USED_OPTIONS = (*PICTURE_OPTIONS, "seed", "num_gpu", "main_gpu", "num_thread")


async def prepare(task: Task, decode: DecodeImages) -> Task:
    """Refuse what no image model can do; decode the picture to start from, if there is one.

    Raises RequestError, also when the packages that draw are not installed.
    """
    require_packages()
    given = _images(task.ask)
    if len(given) > 1:
        raise RequestError("an image model starts from one image at most")
    return replace(task, images=await decode(given) if given else [], warnings=(*task.warnings, *unused(task.ask)))


def _images(ask: Ask) -> Sequence[str]:
    return ask.prompt.images if isinstance(ask.prompt, Single | Raw | Picture) else ()


def unused(ask: Ask) -> list[str]:
    """What the Ask gives and a picture has no use for."""
    names = [name for name in ask.given if name not in _USED]
    options = [name for name in ask.options if name not in _USED_OPTIONS]
    return [
        *(f'"{name}" was ignored: "{ask.model}" is an image model' for name in names),
        *(f'option "{name}" was ignored: "{ask.model}" is an image model' for name in options),
    ]


def load_options(options: Options) -> LoadOptions:
    """What a pipeline is loaded with; the rest is about text and must not load it anew."""
    return LoadOptions(num_gpu=options.num_gpu, main_gpu=options.main_gpu, num_thread=options.num_thread)


def image_request(task: Task) -> ImageRequest:
    """What to draw: the Ask's own numbers over those of its options, which lie over the Modelfile's."""
    wanted, options = _wanted(task.ask), task.options
    return ImageRequest(
        prompt=wanted.prompt,
        width=wanted.width or options.width,
        height=wanted.height or options.height,
        steps=wanted.steps or options.steps,
        seed=None if options.seed == RANDOM_SEED else options.seed,
        negative_prompt=options.negative_prompt,
        guidance=options.guidance,
        image=task.images[0] if task.images else None,
    )


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


async def answer(task: Task, runner: ImageRunner, load_duration: int) -> AsyncGenerator[Event, None]:
    """Yield an event after each step, then the picture and the end; `load_duration` in ns.

    Closing the iterator stops the drawing after its step. Raises RequestError before the first event, EngineError.
    """
    seed = None if task.options.seed == RANDOM_SEED else task.options.seed
    async with aclosing(runner.draw(image_request(task))) as chunks:
        async for chunk in chunks:
            if chunk.image is None:
                yield events.Step(chunk.completed, chunk.total)
                continue
            yield events.Picture(chunk.image, seed)
            yield events.Done(
                reason="stop",
                total_duration=time.perf_counter_ns() - task.started,
                load_duration=load_duration,
                warnings=[*task.warnings, *chunk.warnings],
            )
