"""What the server understands as an OpenAPI 3.1 document, made from the table of routes and the types of bodies."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from serow import __version__
from serow.options import TABLE, Options
from serow.server.fields import describe
from serow.server.operation import PUBLIC, Operation
from serow.server.responses import MEDIA_JSON
from serow.wire import server_sent
from serow.wire.lines import NDJSON

_IN_BRACES = re.compile(r"{(\w+)}")
_OBJECT = {"type": "object"}
_BYTES = "application/octet-stream"
_PATH_PARAMETERS = {"digest": {"type": "string", "pattern": "^sha256[:-][0-9a-f]{64}$"}}
_REFERENCE = "#/components/schemas/{name}"


class Error(Struct, frozen=True):
    """What every error says, and the last line of a stream that broke off."""

    error: str


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole document."""
    schemas = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Serow", "version": __version__, "description": "A local model server behind Ollama's API."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    found = {kind for operation in operations for kind in (operation.body, operation.answer) if kind is not None}
    kinds = sorted(found | {Options, Error}, key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    for operation in operations:
        if operation.body is not None:
            _as_sent(schemas[operation.body.__name__]["properties"])
    _as_sent(schemas["Options"]["properties"])
    for name, (_, option) in TABLE.items():
        schemas["Options"]["properties"][name]["description"] = option.help
    describe(schemas)
    return schemas


def _as_sent(properties: dict[str, Any]) -> None:
    """Types hold what a request has become; a client may send more: null for whatever is absent, a duration in words."""
    properties.pop("warnings", None)
    special: dict[str, dict[str, Any]] = {
        "keep_alive": {"type": ["number", "string"]},
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


_ERROR = {"description": "an error", "content": {MEDIA_JSON: {"schema": {"$ref": _REFERENCE.format(name="Error")}}}}


def _describe(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{operation.method.lower()}_{operation.path.strip('/').replace('/', '_') or 'root'}",
        "responses": {
            "200": _answer(operation),
            "default": {"description": "an error"} if operation.path.startswith("/v1") else _ERROR,
        },
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS.get(name, {"type": "string"})}
        for name in _IN_BRACES.findall(operation.path)
    ]
    if operation.flag:
        parameters.append({"name": operation.flag, "in": "query", "schema": {"enum": ["1", "true"]}})
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(MEDIA_JSON, operation.body)}
    if operation.takes_bytes:
        described["requestBody"] = {"required": True, "content": {_BYTES: {}}}
    if operation.takes:
        described["requestBody"] = {"required": True, "content": {media: {"schema": _OBJECT} for media in operation.takes}}
    if operation.scope != PUBLIC:
        described["security"] = [{}, {"key": [str(operation.scope)]}]
    return described


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.answer is None:
        if operation.has_events:
            return {"description": operation.summary, "content": {MEDIA_JSON: {}, server_sent.CONTENT_TYPE: {}}}
        is_empty = operation.answer_type == MEDIA_JSON and operation.method != "GET"
        return {"description": operation.summary} | ({} if is_empty else {"content": {operation.answer_type: {}}})
    types: Sequence[str] = (MEDIA_JSON, NDJSON) if operation.is_stream else (MEDIA_JSON,)
    content = {media: each for media in types for each in _content(media, operation.answer).values()}
    return {"description": operation.summary, "content": content}


def _content(media_type: str, kind: type[Struct]) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REFERENCE.format(name=kind.__name__)}}}
