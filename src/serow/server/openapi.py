"""GET /openapi.json: what the server understands, as an OpenAPI 3.1 document made from the types that decode and encode.

Each operation is a row of one table. A test holds the table, the routes and docs/api.md together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serow import __version__
from serow.options import TABLE, Options
from serow.server.guard import KEYLESS_PATHS, scope_of
from serow.server.models import CopyRequest, CreateRequest, DeleteRequest, PullRequest, ShowRequest
from serow.server.responses import JSON
from serow.store.show import ShowResponse
from serow.wire.json import encode
from serow.wire.models import PsModel, TagsModel
from serow.wire.ollama import NDJSON, GenerateRecord, GenerateRequest

_JSON = JSON.partition(";")[0]
_TEXT = "text/plain"
_BYTES = "application/octet-stream"
_REFERENCE = "#/components/schemas/{name}"


class Error(Struct, frozen=True):
    """What every error says, and the last line of a stream that broke off."""

    error: str


class Version(Struct, frozen=True):
    """The body of /api/version: the level of Ollama's API that is spoken, and Serow's own version."""

    version: str
    serow: str


class Tags(Struct, frozen=True):
    """The body of /api/tags."""

    models: list[TagsModel]


class Ps(Struct, frozen=True):
    """The body of /api/ps; the numbers with `?verbose=1`."""

    models: list[PsModel]
    num_waiting: int | UnsetType = UNSET
    max_queue: int | UnsetType = UNSET


class Progress(Struct, frozen=True):
    """A step of /api/create or /api/pull; the last is `success`, or an Error. Sizes in bytes."""

    status: str
    digest: str | UnsetType = UNSET
    total: int | UnsetType = UNSET
    completed: int | UnsetType = UNSET


@dataclass(frozen=True)
class Operation:
    """One row: how to ask, and what comes back. `body` and `answer` are types, or what a media type says enough about."""

    method: str
    path: str
    summary: str
    body: type[Struct] | None = None
    answer: type[Struct] | None = None
    answer_type: str = _JSON
    is_stream: bool = False  # NDJSON of the same type, unless `stream` is false
    takes_bytes: bool = False
    flag: str = ""  # of the query


OPERATIONS = (
    Operation(
        "POST",
        "/api/generate",
        "answer a prompt, draw a picture, load or unload",
        GenerateRequest,
        GenerateRecord,
        is_stream=True,
    ),
    Operation("GET", "/api/tags", "every model of the store", answer=Tags),
    Operation("GET", "/api/ps", "the models in memory", answer=Ps, flag="verbose"),
    Operation("POST", "/api/show", "everything about one model", ShowRequest, ShowResponse),
    Operation(
        "POST", "/api/create", "make a model from another one or from uploaded files", CreateRequest, Progress, is_stream=True
    ),
    Operation("POST", "/api/copy", "give a model a second name", CopyRequest),
    Operation("DELETE", "/api/delete", "remove a model", DeleteRequest),
    Operation("POST", "/api/pull", "fetch a model", PullRequest, Progress, is_stream=True),
    Operation("HEAD", "/api/blobs/{digest}", "whether a file is there"),
    Operation("POST", "/api/blobs/{digest}", "upload a file", takes_bytes=True),
    Operation("GET", "/api/version", "the level of Ollama's API, and the server's version", answer=Version),
    Operation("GET", "/metrics", "numbers for Prometheus", answer_type=_TEXT),
    Operation("GET", "/openapi.json", "this document"),
    Operation("GET", "/", "whether a server is there", answer_type=_TEXT),
)


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    schemas = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Serow", "version": __version__, "description": "A local model server behind Ollama's API."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _schemas() -> dict[str, Any]:
    found = {kind for operation in OPERATIONS for kind in (operation.body, operation.answer) if kind is not None}
    kinds = sorted(found | {Options, Error}, key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    for operation in OPERATIONS:
        if operation.body is not None:
            _as_sent(schemas[operation.body.__name__]["properties"])
    _as_sent(schemas["Options"]["properties"])
    for name, (_, option) in TABLE.items():
        schemas["Options"]["properties"][name]["description"] = option.help
    return schemas


def _as_sent(properties: dict[str, Any]) -> None:
    """Types hold what a request has become; a client may send more: null for whatever is absent, a duration in words."""
    properties.pop("warnings", None)
    special: dict[str, dict[str, Any]] = {
        "keep_alive": {"type": ["number", "string"], "description": 'seconds, or a duration: "5m"; negative is for ever'},
        "options": {"$ref": _REFERENCE.format(name="Options")},
        "images": {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}},
        "stop": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]},
        "logit_bias": {"anyOf": [{"type": "array"}, {"type": "object", "additionalProperties": {"type": "number"}}]},
    }
    null = {"type": "null"}
    for name, declared in properties.items():
        schema = special.get(name, declared)
        default = schema.pop("default", None)
        choices = [choice for choice in schema.pop("anyOf", [schema]) if choice not in (null, {})]
        properties[name] = {"anyOf": [*choices, null]} if choices else {}
        if default is not None:
            properties[name]["default"] = default


def _describe(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{operation.method.lower()}_{operation.path.strip('/').replace('/', '_') or 'root'}",
        "responses": {"200": _answer(operation), "default": {"description": "an error", "content": _content(_JSON, Error)}},
    }
    if "{digest}" in operation.path:
        pattern = {"type": "string", "pattern": "^sha256[:-][0-9a-f]{64}$"}
        described["parameters"] = [{"name": "digest", "in": "path", "required": True, "schema": pattern}]
    if operation.flag:
        described["parameters"] = [{"name": operation.flag, "in": "query", "schema": {"enum": ["1", "true"]}}]
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(_JSON, operation.body)}
    if operation.takes_bytes:
        described["requestBody"] = {"required": True, "content": {_BYTES: {}}}
    if operation.path not in KEYLESS_PATHS:
        described["security"] = [{}, {"key": [str(scope_of(operation.path))]}]
    return described


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.answer is None:
        is_empty = operation.answer_type == _JSON and operation.method != "GET"
        return {"description": operation.summary} | ({} if is_empty else {"content": {operation.answer_type: {}}})
    types: Sequence[str] = (_JSON, NDJSON) if operation.is_stream else (_JSON,)
    content = {media: each for media in types for each in _content(media, operation.answer).values()}
    return {"description": operation.summary, "content": content}


def _content(media_type: str, kind: type[Struct]) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REFERENCE.format(name=kind.__name__)}}}


async def openapi(_: Request) -> Response:
    """The document, for people, code generators and fuzzers."""
    return Response(_encoded(), media_type=_JSON)


@cache
def _encoded() -> bytes:
    return encode(document())


routes = [Route("/openapi.json", openapi, methods=["GET"])]
