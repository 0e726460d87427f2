"""How a handler of OpenAI's or Anthropic's dialect answers: Asks to the flow, its events to the client."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from serow.errors import Incapable
from serow.inference.ask import Ask
from serow.inference.choices import choices
from serow.inference.events import Chosen, Rendered
from serow.server import limits
from serow.server.context import Context, context
from serow.server.exchange import current
from serow.server.streaming import StreamResponse
from serow.wire.stream import Stream
from serow.wire.whole import Render, WholeChoices

_SMALL = 16 << 10  # bytes of a body whose Ask is looked through within a millisecond

Events = AsyncGenerator[Chosen, None]


async def answer(
    request: Request,
    asks: Sequence[Ask],
    stream: Stream[Chosen],
    render: Render,
    *,
    draws: bool = False,
    then: Callable[[Events], Events] = lambda events: events,
) -> Response:
    """The answer to one Ask a choice, streamed if the first says so; `then` may change its events.

    Raises RequestError for a model that is not for this: only an image model `draws`.
    """
    server, exchange = context(request), current()
    for ask in asks:
        await check(server, ask, draws=draws)
    one = partial(server.inference.answer, client=request.state.client, timeline=exchange.timeline)
    whole = WholeChoices(len(asks), render)
    return StreamResponse(then(choices(asks, one)), stream, whole, streams=asks[0].stream, is_alone=is_alone)


async def check(server: Context, ask: Ask, *, draws: bool = False) -> None:
    """Note what is asked for, and refuse what is too large or not for this model; raises RequestError, ModelNotFound."""
    exchange = current()
    exchange.model, exchange.prompt = ask.model, ask.text
    if exchange.held <= _SMALL:
        limits.check(ask, server.settings)
    else:
        await asyncio.to_thread(limits.check, ask, server.settings)
    if (await server.store.find(ask.model)).is_image is not draws:
        purpose = "image generation" if draws else ask.purpose
        raise Incapable(ask.model, purpose)


def is_alone(chosen: Chosen) -> bool:
    """Whether an event is a whole answer also where streaming was asked for: a shown prompt."""
    return isinstance(chosen[1], Rendered)
