"""POST /v1/images/generations and /v1/images/edits: a description in, pictures out."""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from serow.images import convert
from serow.inference.events import Chosen, Picture
from serow.server.body import decoded
from serow.server.handlers.answering import answer
from serow.wire import openai_images
from serow.wire.openai_images import PictureRequest, PictureStream


async def generate(request: Request) -> Response:
    """Draw what a text describes."""
    return await _answer(request, await decoded(request, openai_images.decode))


async def edit(request: Request) -> Response:
    """Draw a picture anew as a text says; the picture comes as JSON or in a form."""
    content_type = request.headers.get("content-type", "")
    return await _answer(request, await decoded(request, partial(openai_images.decode_edit, content_type=content_type)))


async def _answer(request: Request, wanted: PictureRequest) -> Response:
    return await answer(
        request,
        wanted.asks,
        PictureStream(wanted),
        partial(openai_images.whole, wanted),
        draws=True,
        then=partial(_converted, wanted),
    )


async def _converted(wanted: PictureRequest, events: AsyncGenerator[Chosen, None]) -> AsyncGenerator[Chosen, None]:
    """The same events, pictures in the format that was asked for."""
    async for number, event in events:
        if isinstance(event, Picture) and wanted.output_format != "png":
            quality = wanted.output_compression
            image = await asyncio.to_thread(convert, event.image, wanted.output_format, quality)
            yield number, Picture(image, event.seed)
        else:
            yield number, event
