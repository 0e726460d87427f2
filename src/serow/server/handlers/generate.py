"""POST /api/generate: bytes in, events out."""

from starlette.requests import Request
from starlette.responses import Response

from serow.inference.events import Done, Event, Rendered
from serow.server import limits
from serow.server.body import decoded
from serow.server.context import context
from serow.server.exchange import current
from serow.server.streaming import StreamResponse
from serow.wire.ollama import GenerateStream, GenerateWhole, decode_generate


async def generate(request: Request) -> Response:
    """Text, pictures, load and unload: one endpoint."""
    server = context(request)
    ask = await decoded(request, decode_generate)
    exchange = current()
    exchange.model, exchange.prompt = ask.model, ask.text
    limits.check(ask, server.settings)
    events = server.inference.answer(ask, request.state.client, exchange.timeline)
    stream, whole = GenerateStream(ask.model), GenerateWhole(ask.model)
    return StreamResponse(events, stream, whole, streams=ask.stream, is_alone=is_alone)


def is_alone(event: Event) -> bool:
    """Whether an event is a whole answer of one object also where streaming was asked for: load, unload, a shown prompt."""
    return isinstance(event, Done | Rendered)
