"""POST /api/generate and /api/chat: bytes in, events out."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from serow.inference.ask import Ask
from serow.inference.events import Done, Event, Rendered
from serow.server import limits
from serow.server.body import decoded
from serow.server.context import context
from serow.server.exchange import current
from serow.server.streaming import StreamResponse
from serow.wire.ollama import GenerateStream, GenerateWhole, decode_generate
from serow.wire.ollama_chat import ChatStream, ChatWhole, decode_chat
from serow.wire.stream import Stream, Whole


async def generate(request: Request) -> Response:
    """Text, pictures, load and unload: one endpoint."""
    return await _answer(request, decode_generate, GenerateStream, GenerateWhole)


async def chat(request: Request) -> Response:
    """The next message of a conversation, and calls of tools."""
    return await _answer(request, decode_chat, ChatStream, ChatWhole)


async def _answer(
    request: Request,
    decode: Callable[[bytes], Ask],
    stream: Callable[[str], Stream[Event]],
    whole: Callable[[str], Whole[Event]],
) -> Response:
    server, exchange = context(request), current()

    def checked(body: bytes) -> Ask:
        ask = decode(body)
        exchange.model, exchange.prompt = ask.model, ask.text
        limits.check(ask, server.settings)
        return ask

    ask = await decoded(request, checked)
    events = server.inference.answer(ask, request.state.client, exchange.timeline)
    return StreamResponse(events, stream(ask.model), whole(ask.model), streams=ask.stream, is_alone=is_alone)


def is_alone(event: Event) -> bool:
    """Whether an event is a whole answer of one object also where streaming was asked for: load, unload, a shown prompt."""
    return isinstance(event, Done | Rendered)
