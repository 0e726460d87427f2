"""The table of routes. Router, guard, /openapi.json and docs/api.md read it, in this order; nothing else knows a path."""

from functools import cache

from starlette.requests import Request
from starlette.responses import Response

from serow.keys import Scope
from serow.server.handlers import (
    anthropic,
    blobs,
    devices,
    loaded,
    model_list,
    models,
    ollama,
    openai,
    openai_images,
    page,
    status,
    upkeep,
)
from serow.server.openapi import document
from serow.server.operation import PUBLIC, Operation, PublicPaths
from serow.server.responses import MEDIA_JSON
from serow.store.show import ShowResponse
from serow.wire.devices import Devices
from serow.wire.json import encode
from serow.wire.models import Partials, Progress, Pruned, Ps, Tags, Version
from serow.wire.ollama import GenerateRecord, GenerateRequest
from serow.wire.ollama_chat import ChatRecord, ChatRequest
from serow.wire.ollama_embed import EmbeddingsRequest, EmbeddingsResponse, EmbedRequest, EmbedResponse

_TEXT = "text/plain"
_HTML = "text/html"
_BYTES = "application/octet-stream"


async def openapi(_: Request) -> Response:
    """The document, for people, code generators and fuzzers."""
    return Response(_document(), media_type=MEDIA_JSON)


@cache
def _document() -> bytes:
    return encode(document(OPERATIONS))


OPERATIONS = (
    Operation(
        method="POST",
        path="/api/generate",
        scope=Scope.INFER,
        handler=ollama.generate,
        summary="answer a prompt, draw a picture, load or unload",
        body=GenerateRequest,
        answer=GenerateRecord,
        is_stream=True,
    ),
    Operation(
        method="POST",
        path="/api/embed",
        scope=Scope.INFER,
        handler=ollama.embed,
        summary="make a vector of each text",
        body=EmbedRequest,
        answer=EmbedResponse,
    ),
    Operation(
        method="POST",
        path="/api/embeddings",
        scope=Scope.INFER,
        handler=ollama.embeddings,
        summary="make a vector of one text, as older clients ask for it",
        body=EmbeddingsRequest,
        answer=EmbeddingsResponse,
    ),
    Operation(
        method="POST",
        path="/api/chat",
        scope=Scope.INFER,
        handler=ollama.chat,
        summary="answer a conversation, call tools, load or unload",
        body=ChatRequest,
        answer=ChatRecord,
        is_stream=True,
    ),
    Operation(
        method="GET",
        path="/api/tags",
        scope=Scope.INFER,
        handler=models.tags,
        summary="every model of the store",
        answer=Tags,
    ),
    Operation(
        method="GET",
        path="/api/ps",
        scope=Scope.INFER,
        handler=loaded.ps,
        summary="the models in memory",
        flag="verbose",
        answer=Ps,
    ),
    Operation(
        method="GET",
        path="/api/devices",
        scope=Scope.INFER,
        handler=devices.devices,
        summary="the GPUs: their memory, what runs there, why one is not used",
        answer=Devices,
    ),
    Operation(
        method="POST",
        path="/api/show",
        scope=Scope.INFER,
        handler=models.show_model,
        summary="everything about one model",
        body=models.ShowRequest,
        answer=ShowResponse,
    ),
    Operation(
        method="POST",
        path="/api/create",
        scope=Scope.MANAGE,
        handler=models.create,
        summary="make a model from another one or from uploaded files",
        body=models.CreateRequest,
        answer=Progress,
        is_stream=True,
    ),
    Operation(
        method="POST",
        path="/api/copy",
        scope=Scope.MANAGE,
        handler=models.copy,
        summary="give a model a second name",
        body=models.CopyRequest,
    ),
    Operation(
        method="DELETE",
        path="/api/delete",
        scope=Scope.MANAGE,
        handler=models.delete,
        summary="remove a model",
        body=models.DeleteRequest,
    ),
    Operation(
        method="POST",
        path="/api/pull",
        scope=Scope.MANAGE,
        handler=models.pull_model,
        summary="fetch a model",
        body=models.PullRequest,
        answer=Progress,
        is_stream=True,
    ),
    Operation(
        method="POST",
        path="/api/push",
        scope=Scope.MANAGE,
        handler=models.push_model,
        summary="bring a model to its registry",
        body=models.PushRequest,
        answer=Progress,
        is_stream=True,
    ),
    Operation(
        method="POST",
        path="/api/prune",
        scope=Scope.MANAGE,
        handler=upkeep.prune,
        summary="remove what belongs to no model",
        body=upkeep.PruneRequest,
        answer=Pruned,
    ),
    Operation(
        method="POST",
        path="/api/verify",
        scope=Scope.MANAGE,
        handler=upkeep.verify,
        summary="read the files of models again",
        body=upkeep.VerifyRequest,
        answer=Progress,
        is_stream=True,
    ),
    Operation(
        method="GET",
        path="/api/partials",
        scope=Scope.MANAGE,
        handler=upkeep.partials,
        summary="what unfinished downloads have left",
        answer=Partials,
    ),
    Operation(
        method="HEAD",
        path="/api/blobs/{digest}",
        scope=Scope.MANAGE,
        handler=blobs.head,
        summary="whether a file is there",
    ),
    Operation(
        method="POST",
        path="/api/blobs/{digest}",
        scope=Scope.MANAGE,
        handler=blobs.create,
        summary="upload a file",
        takes_bytes=True,
    ),
    Operation(
        method="POST",
        path="/v1/chat/completions",
        scope=Scope.INFER,
        handler=openai.chat,
        summary="OpenAI: answer a conversation, in one or more choices",
        takes=(MEDIA_JSON,),
        has_events=True,
    ),
    Operation(
        method="POST",
        path="/v1/completions",
        scope=Scope.INFER,
        handler=openai.completions,
        summary="OpenAI: go on from raw prompts",
        takes=(MEDIA_JSON,),
        has_events=True,
    ),
    Operation(
        method="GET",
        path="/v1/models",
        scope=Scope.INFER,
        handler=model_list.list_models,
        summary="OpenAI, Anthropic: every model of the store",
    ),
    Operation(
        method="GET",
        path="/v1/models/{model}",
        scope=Scope.INFER,
        handler=model_list.get_model,
        summary="OpenAI, Anthropic: one model",
    ),
    Operation(
        method="POST",
        path="/v1/embeddings",
        scope=Scope.INFER,
        handler=openai.embeddings,
        summary="OpenAI: texts become vectors",
        takes=(MEDIA_JSON,),
    ),
    Operation(
        method="POST",
        path="/v1/responses",
        scope=Scope.INFER,
        handler=openai.create_response,
        summary="OpenAI: answer items, and remember it",
        takes=(MEDIA_JSON,),
        has_events=True,
    ),
    Operation(
        method="GET",
        path="/v1/responses/{id}",
        scope=Scope.INFER,
        handler=openai.get_response,
        summary="OpenAI: an answer that is remembered",
    ),
    Operation(
        method="DELETE",
        path="/v1/responses/{id}",
        scope=Scope.INFER,
        handler=openai.delete_response,
        summary="OpenAI: forget an answer",
    ),
    Operation(
        method="POST",
        path="/v1/images/generations",
        scope=Scope.INFER,
        handler=openai_images.generate,
        summary="OpenAI: draw pictures",
        takes=(MEDIA_JSON,),
        has_events=True,
    ),
    Operation(
        method="POST",
        path="/v1/images/edits",
        scope=Scope.INFER,
        handler=openai_images.edit,
        summary="OpenAI: draw a picture anew",
        takes=(MEDIA_JSON, "multipart/form-data"),
        has_events=True,
    ),
    Operation(
        method="POST",
        path="/v1/messages",
        scope=Scope.INFER,
        handler=anthropic.messages,
        summary="Anthropic: answer a conversation",
        takes=(MEDIA_JSON,),
        has_events=True,
    ),
    Operation(
        method="POST",
        path="/v1/messages/count_tokens",
        scope=Scope.INFER,
        handler=anthropic.count_tokens,
        summary="Anthropic: count what a conversation holds",
        takes=(MEDIA_JSON,),
    ),
    Operation(
        method="GET",
        path="/api/version",
        scope=PUBLIC,
        handler=status.version,
        summary="the level of Ollama's API, and the server's version",
        answer=Version,
    ),
    Operation(
        method="GET",
        path="/metrics",
        scope=Scope.INFER,
        handler=status.metrics,
        summary="numbers for Prometheus",
        answer_type=_TEXT,
    ),
    Operation(method="GET", path="/openapi.json", scope=Scope.INFER, handler=openapi, summary="this document"),
    Operation(
        method="GET",
        path="/",
        scope=PUBLIC,
        handler=page.index,
        summary="whether a server is there; the page for browsers",
        answer_type=_TEXT,
    ),
    Operation(
        method="GET",
        path="/page/{file}",
        scope=PUBLIC,
        handler=page.static,
        summary="a file of the page",
        answer_type=_BYTES,
    ),
    Operation(
        method="POST",
        path="/page/api/markdown",
        scope=Scope.INFER,
        handler=page.markdown,
        summary="Markdown as HTML that can do nothing",
        body=page.MarkdownRequest,
        answer_type=_HTML,
    ),
    Operation(
        method="GET",
        path="/page/api/now",
        scope=Scope.INFER,
        handler=page.now,
        summary="rates, errors and memory, for the page",
        answer=page.Now,
    ),
)
PUBLIC_PATHS = PublicPaths(OPERATIONS)
