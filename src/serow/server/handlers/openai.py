"""OpenAI's routes: bytes in, events out."""

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from serow.errors import NotFound
from serow.server.body import decoded
from serow.server.context import context
from serow.server.handlers.answering import answer
from serow.server.responses import json_response
from serow.server.stored import StoredAnswers
from serow.server.streaming import RecordLines
from serow.wire import openai_chat, openai_completions, openai_embeddings, responses
from serow.wire.openai_chat import ChatStream
from serow.wire.openai_completions import CompletionStream
from serow.wire.responses import ResponsesRequest
from serow.wire.responses_stream import ResponseStream


async def chat(request: Request) -> Response:
    """POST /v1/chat/completions: an answer to a conversation, in one or more choices."""
    wanted = await decoded(request, partial(openai_chat.decode, truncates=context(request).settings.truncate))
    return await answer(request, wanted.asks, ChatStream(wanted), partial(openai_chat.whole, wanted))


async def completions(request: Request) -> Response:
    """POST /v1/completions: raw prompts go on."""
    wanted = await decoded(request, partial(openai_completions.decode, truncates=context(request).settings.truncate))
    return await answer(request, wanted.asks, CompletionStream(wanted), partial(openai_completions.whole, wanted))


async def embeddings(request: Request) -> Response:
    """POST /v1/embeddings: texts become vectors."""
    wanted = await decoded(request, openai_embeddings.decode)
    return await answer(request, [wanted.ask], RecordLines(), partial(openai_embeddings.whole, wanted))


async def create_response(request: Request) -> Response:
    """POST /v1/responses: an answer to items, which a later request may follow."""
    server, client = context(request), request.state.client
    decode = partial(responses.decode, memory=server.stored.memory(client), truncates=server.settings.truncate)
    wanted = await decoded(request, decode)
    keep = partial(_keep, server.stored, client, wanted)
    return await answer(request, [wanted.ask], ResponseStream(wanted, keep), partial(responses.whole, wanted, keep=keep))


def _keep(stored: StoredAnswers, client: str, wanted: ResponsesRequest, response: dict[str, Any]) -> None:
    if wanted.is_stored:
        stored.keep(client, wanted.items, response, wanted.size)


async def get_response(request: Request) -> Response:
    """GET /v1/responses/{id}: an answer that is kept."""
    ident = request.path_params["id"]
    found = context(request).stored.find(request.state.client, ident)
    if found is None:
        raise _no_response(ident)
    return json_response(found.response)


async def delete_response(request: Request) -> Response:
    """DELETE /v1/responses/{id}: an answer is forgotten."""
    ident = request.path_params["id"]
    if not context(request).stored.forget(request.state.client, ident):
        raise _no_response(ident)
    return json_response({"id": ident, "object": "response", "deleted": True})


def _no_response(ident: str) -> NotFound:
    return NotFound(f"Response with id '{ident}' not found.", param="id", code="response_not_found")
