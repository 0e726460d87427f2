"""POST /api/embed and /api/embeddings: texts in, vectors out."""

from collections.abc import AsyncGenerator, Callable

from starlette.requests import Request
from starlette.responses import Response

from serow.errors import ModelNotFound, NotFound
from serow.inference.ask import Ask
from serow.inference.events import Event
from serow.server import limits
from serow.server.body import decoded
from serow.server.context import context
from serow.server.exchange import current
from serow.server.streaming import RecordLines, StreamResponse
from serow.wire.ollama_embed import EmbeddingsWhole, EmbedWhole, decode_embed, decode_embeddings
from serow.wire.stream import Whole


async def embed(request: Request) -> Response:
    """A vector for each text of a list."""
    return await _answer(request, decode_embed, lambda ask: EmbedWhole(ask.model))


async def embeddings(request: Request) -> Response:
    """A vector for one text, as it was before there were lists."""
    return await _answer(request, decode_embeddings, lambda _: EmbeddingsWhole())


async def _answer(request: Request, decode: Callable[[bytes], Ask], whole: Callable[[Ask], Whole[Event]]) -> Response:
    server = context(request)
    ask = await decoded(request, decode)
    exchange = current()
    exchange.model = ask.model
    limits.check(ask, server.settings)
    events = _events(server.inference.answer(ask, request.state.client, exchange.timeline))
    return StreamResponse(events, RecordLines(), whole(ask), streams=False)


async def _events(events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """The same, a missing model in the words of these routes (EMB-05)."""
    try:
        async for event in events:
            yield event
    except ModelNotFound as error:
        if not error.name:
            raise
        raise NotFound(f'model "{error.name}" not found, try pulling it first', hint=error.hint) from None
