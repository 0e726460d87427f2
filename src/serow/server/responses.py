"""The one place that renders: JSON, errors, and streams that always end with a last record (RES-04, RES-05)."""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from serow.errors import Forbidden, RequestError, SerowError, Unavailable
from serow.server.exchange import current
from serow.wire import anthropic, openai_answer
from serow.wire.json import encode

MEDIA_JSON = "application/json"
JSON = f"{MEDIA_JSON}; charset=utf-8"


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None, media_type: str = JSON) -> Response:
    """A value as JSON."""
    return Response(encode(value), status, headers, media_type)


def error_response(error: SerowError) -> Response:
    """An error before the first byte."""
    current().fail(error)
    if isinstance(error, Forbidden):
        return Response(status_code=error.status)
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Unavailable) else None
    return json_response(_error_body(error), error.status, headers)


def _ollama_body(error: SerowError, _: str) -> dict[str, Any]:
    return {"error": str(error)}


# How each API tells an error, by the beginning of its paths; the first that fits. The string is the request's id.
_ERROR_BODIES: tuple[tuple[str, Callable[[SerowError, str], dict[str, Any]]], ...] = (
    ("/v1/messages", anthropic.error_body),
    ("/v1", lambda error, _: openai_answer.error_body(error)),
    ("", _ollama_body),
)


def _error_body(error: SerowError) -> dict[str, Any]:
    exchange = current()
    return next(body for path, body in _ERROR_BODIES if exchange.path.startswith(path))(error, exchange.id)


def render_error(_: Request, error: Exception) -> Response:
    """Starlette's handler for what handlers raise."""
    if isinstance(error, SerowError):
        return error_response(error)
    current().fail(error)
    return json_response(_error_body(SerowError("internal error")), 500)


def client_left(_: Request, __: Exception) -> Response:
    """A client that left while it was still sending: an answer that nobody reads."""
    return Response(status_code=499)


def not_found(_: Request, __: Exception) -> Response:
    """A path that no route knows."""
    return Response("404 page not found", 404, media_type="text/plain")


def method_not_allowed(_: Request, error: Exception) -> Response:
    """A method that the route does not have; `Allow` names those that it has (RFC 9110, 15.5.6)."""
    return Response("405 method not allowed", 405, getattr(error, "headers", None), "text/plain")


def require(condition: object, message: str) -> None:
    """Raise RequestError with `message` unless `condition` holds."""
    if not condition:
        raise RequestError(message)
