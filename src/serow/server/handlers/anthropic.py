"""Anthropic's routes: bytes in, events out."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from serow.server.body import decoded
from serow.server.context import context
from serow.server.exchange import current
from serow.server.handlers.answering import answer, check
from serow.server.responses import json_response
from serow.wire import anthropic
from serow.wire.anthropic import MessageStream


async def messages(request: Request) -> Response:
    """POST /v1/messages: an answer to a conversation."""
    wanted = await decoded(request, anthropic.decode)
    return await answer(request, [wanted.ask], MessageStream(wanted, current().id), partial(anthropic.whole, wanted))


async def count_tokens(request: Request) -> Response:
    """POST /v1/messages/count_tokens: what a conversation costs to read."""
    server = context(request)
    ask = (await decoded(request, partial(anthropic.decode, is_counted=True))).ask
    await check(server, ask)
    return json_response({"input_tokens": await server.inference.count(ask, request.state.client)})
