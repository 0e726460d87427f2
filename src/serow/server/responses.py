"""The one place that renders: JSON, errors, and streams that always end with a last record (RES-04, RES-05)."""

from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serow.errors import (
    Forbidden,
    LoadError,
    MethodNotAllowed,
    NotEnoughMemory,
    NotFound,
    RequestError,
    SerowError,
    StoreError,
    Unavailable,
)
from serow.server.exchange import current
from serow.server.wrong_paths import complaint, intended, is_of_an_api, shape_for
from serow.wire.errors import Shape, error_body, shape_of
from serow.wire.json import encode

MEDIA_JSON = "application/json"
JSON = f"{MEDIA_JSON}; charset=utf-8"
_PLAIN = " !\"#$&'()*+,/:;<=>?@[]^`{|}"  # beside letters and digits; the rest of a hint is written as in an address
_REPEATING = (LoadError, NotEnoughMemory, StoreError)  # failures that asking again does not mend


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None, media_type: str = JSON) -> Response:
    """A value as JSON."""
    return Response(encode(value), status, headers, media_type)


def error_response(error: SerowError) -> Response:
    """An error before the first byte."""
    current().fail(error)
    if isinstance(error, Forbidden):
        return Response(status_code=error.status)
    return json_response(_error_body(error), error.status, {**_retry_headers(error), **_hint(error)})


def _hint(error: SerowError) -> dict[str, str]:
    """What to do about a request that is refused, beside the body, whose text clients compare."""
    if not error.hint or not isinstance(error, RequestError):
        return {}
    return {"X-Serow-Hint": quote(error.hint, safe=_PLAIN)}


def _retry_headers(error: SerowError) -> dict[str, str]:
    """When to ask again, or that it would only go wrong again: SDKs repeat what failed with 5xx (OAI-02)."""
    if isinstance(error, Unavailable):
        return {"Retry-After": str(error.retry_after)}
    return {"x-should-retry": "false"} if isinstance(error, _REPEATING) else {}


def _error_body(error: SerowError, shape: Shape | None = None) -> dict[str, Any]:
    exchange = current()
    found = shape or shape_of(exchange.path, has_anthropic_version=exchange.has_anthropic_version)
    return error_body(found, exchange.path, error, exchange.id)


async def render_error(_: Request, error: Exception) -> Response:
    """Starlette's handler for what handlers raise."""
    if isinstance(error, SerowError):
        return error_response(error)
    current().fail(error)
    return json_response(_error_body(SerowError("internal error")), 500)


async def client_left(_: Request, __: Exception) -> Response:
    """A client that left while it was still sending: an answer that nobody reads."""
    return Response(status_code=499)


async def not_found(request: Request, _: Exception) -> Response:
    """A path that no route knows, with the one that was probably meant."""
    exchange = current()
    meant = intended(request.url.path, _paths(request.app))
    if not (meant or is_of_an_api(request.url.path)) or not _reads_json(request):
        return Response("404 page not found", 404, media_type="text/plain")
    error = NotFound(complaint(exchange, meant))
    return json_response(_error_body(error, shape_for(exchange, meant)), 404)


async def method_not_allowed(request: Request, error: Exception) -> Response:
    """A method that the route does not have; `Allow` names those that it has (RFC 9110, 15.5.6)."""
    headers = getattr(error, "headers", None)
    if not is_of_an_api(request.url.path) or not _reads_json(request):
        return Response("405 method not allowed", 405, headers, "text/plain")
    told = MethodNotAllowed(f"405 method not allowed: {request.method} {request.url.path}")
    return json_response(_error_body(told), 405, headers)


def _reads_json(request: Request) -> bool:
    """Whether JSON is what to answer on a path of an API: under /api, who says nothing of what it accepts gets plain text."""
    return request.url.path.startswith("/v1") or "accept" in request.headers


def _paths(app: Starlette) -> frozenset[str]:
    return frozenset(route.path for route in app.routes if isinstance(route, Route))


def require(condition: object, message: str) -> None:
    """Raise RequestError with `message` unless `condition` holds."""
    if not condition:
        raise RequestError(message)
