"""POST /api/generate, /api/chat, /api/embed and /api/embeddings: bytes in, events out."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response

from serow.errors import ModelNotFound, NotFound
from serow.inference.ask import Ask
from serow.inference.events import Done, Event, Rendered
from serow.server import limits
from serow.server.body import decoded
from serow.server.context import context
from serow.server.exchange import current
from serow.server.streaming import RecordLines, StreamResponse
from serow.wire.ollama import GenerateStream, GenerateWhole, decode_generate
from serow.wire.ollama_chat import ChatStream, ChatWhole, decode_chat
from serow.wire.ollama_embed import EmbeddingsWhole, EmbedWhole, decode_embed, decode_embeddings
from serow.wire.stream import Stream, Whole

Events = AsyncGenerator[Event, None]


async def generate(request: Request) -> Response:
    """Text, pictures, load and unload: one endpoint."""
    return await _answer(request, decode_generate, GenerateStream, GenerateWhole)


async def chat(request: Request) -> Response:
    """The next message of a conversation, and calls of tools."""
    return await _answer(request, decode_chat, ChatStream, ChatWhole)


async def embed(request: Request) -> Response:
    """A vector for each text of a list."""
    return await _answer(request, decode_embed, _lines, EmbedWhole, _pulled_first)


async def embeddings(request: Request) -> Response:
    """A vector for one text, as it was before there were lists."""
    return await _answer(request, decode_embeddings, _lines, lambda _: EmbeddingsWhole(), _pulled_first)


async def _answer(
    request: Request,
    decode: Callable[[bytes], Ask],
    stream: Callable[[str], Stream[Event]],
    whole: Callable[[str], Whole[Event]],
    then: Callable[[Events], Events] = lambda events: events,
) -> Response:
    server, exchange = context(request), current()

    def checked(body: bytes) -> Ask:
        ask = decode(body)
        exchange.model, exchange.prompt = ask.model, ask.text
        limits.check(ask, server.settings)
        return ask

    ask = await decoded(request, checked)
    events = then(server.inference.answer(ask, request.state.client, exchange.timeline))
    return StreamResponse(events, stream(ask.model), whole(ask.model), streams=ask.stream, is_alone=is_alone)


def _lines(_: str) -> Stream[Event]:
    """Vectors are never streamed."""
    return RecordLines()


async def _pulled_first(events: Events) -> Events:
    """The same events, a missing model in the words of the embedding routes (EMB-05)."""
    try:
        async with aclosing(events):
            async for event in events:
                yield event
    except ModelNotFound as error:
        if not error.name:
            raise
        raise NotFound(f'model "{error.name}" not found, try pulling it first', hint=error.hint) from None


def is_alone(event: Event) -> bool:
    """Whether an event is a whole answer of one object also where streaming was asked for: load, unload, a shown prompt."""
    return isinstance(event, Done | Rendered)
