"""The flow of a request to an image model: what it asks for, then a record for each step and one with the picture (GEN-18)."""

import base64
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec import UNSET
from msgspec.structs import fields

from serow.api.codec import now
from serow.api.types import GenerateRecord, GenerateRequest
from serow.errors import RequestError
from serow.images import MAX_PIXELS, decode_images
from serow.job import Job
from serow.options import PICTURE_OPTIONS, LoadOptions, Options
from serow.runner.base import RANDOM_SEED, ImageChunk, ImageRequest, ImageRunner
from serow.runner.image import require_packages

_USED = ("model", "prompt", "stream", "images", "options", "keep_alive", "width", "height", "steps", "warnings")
_USED_OPTIONS = (*PICTURE_OPTIONS, "seed", "num_gpu", "main_gpu", "num_thread")


def check(request: GenerateRequest, max_pixels: int = MAX_PIXELS) -> list[bytes]:
    """Refuse what no image model can do; returns the picture to start from, if there is one, as PNG bytes. Blocks.

    Raises RequestError, also when the packages that draw are not installed.
    """
    if request.prompt or request.keep_alive != 0:  # a model that can't be loaded may still be unloaded, and removed
        require_packages()
    if len(request.images) > 1:
        raise RequestError("an image model starts from one image at most")
    return decode_images(request.images, max_pixels)


def unused(request: GenerateRequest) -> list[str]:
    """What the request gives and a picture has no use for."""
    defaults = GenerateRequest()
    others = [field for field in fields(GenerateRequest) if field.name not in _USED]
    names = [field.encode_name for field in others if getattr(request, field.name) != getattr(defaults, field.name)]
    options = [name for name in request.options if name not in _USED_OPTIONS]
    return [
        *(f'"{name}" was ignored: "{request.model}" is an image model' for name in names),
        *(f'option "{name}" was ignored: "{request.model}" is an image model' for name in options),
    ]


def load_options(options: Options) -> LoadOptions:
    """What a pipeline is loaded with; the rest is about text and must not load it anew."""
    return LoadOptions(num_gpu=options.num_gpu, main_gpu=options.main_gpu, num_thread=options.num_thread)


def image_request(job: Job) -> ImageRequest:
    """What to draw: the request's own numbers over those of its options, which lie over the Modelfile's."""
    request, options = job.request, job.options
    return ImageRequest(
        prompt=request.prompt,
        width=request.width or options.width,
        height=request.height or options.height,
        steps=request.steps or options.steps,
        seed=None if options.seed == RANDOM_SEED else options.seed,
        negative_prompt=options.negative_prompt,
        guidance=options.guidance,
        image=job.images[0] if job.images else None,
    )


async def draw(job: Job, runner: ImageRunner, load_duration: int) -> AsyncGenerator[GenerateRecord, None]:
    """Yield a record after each step, then the final one; `load_duration` in ns.

    Closing the iterator stops the drawing after its step. Raises RequestError before the first record, EngineError.
    """
    async with aclosing(runner.draw(image_request(job))) as chunks:
        async for chunk in chunks:
            if chunk.image is None:
                yield _progress(job.request.model, chunk)
            else:
                total_duration = time.perf_counter_ns() - job.started
                said = [*job.warnings, *chunk.warnings]
                yield _final(job.request.model, chunk.image, total_duration, load_duration, said)


def _progress(model: str, chunk: ImageChunk) -> GenerateRecord:
    return GenerateRecord(model=model, created_at=now(), response="", done=False, completed=chunk.completed, total=chunk.total)


def _final(model: str, image: bytes, total_duration: int, load_duration: int, warnings: list[str]) -> GenerateRecord:
    return GenerateRecord(
        model=model,
        created_at=now(),
        response="",
        done=True,
        done_reason="stop",
        image=base64.b64encode(image).decode("ascii"),
        total_duration=total_duration,
        load_duration=load_duration,
        warnings=warnings or UNSET,
    )
