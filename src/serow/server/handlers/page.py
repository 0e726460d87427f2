"""The page for browsers: its files, Markdown rendered for it, and what it shows of the server now."""

import hashlib
from functools import cache
from importlib.resources import files

import psutil
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from serow.errors import NotFound, RequestError
from serow.keys import Scope
from serow.server.body import decoded
from serow.server.context import context
from serow.server.page.markdown import LONGEST, to_bytes
from serow.server.page.recent import Failure
from serow.server.responses import json_response
from serow.wire.json import convert, decode_object
from serow.workers.pool import Limits

_FILES = files("serow.server.page") / "static"
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
MARKDOWN_LIMITS = Limits(cpu=1.0, memory=256 << 20, wall=1.5)  # a second is 300,000 characters of usual Markdown


class MarkdownRequest(Struct, frozen=True):
    """Body of POST /page/api/markdown."""

    text: str = ""


class Memory(Struct, frozen=True):
    """The machine's memory in bytes."""

    total: int
    available: int


class Now(Struct, frozen=True):
    """Body of GET /page/api/now. `rates`: tokens a second, a point for each five seconds of the last ten minutes."""

    rates: list[float]
    errors: list[Failure]
    memory: Memory


async def index(request: Request) -> Response:
    """The page, for who asks for HTML; other clients ask whether a server is there (RES-06)."""
    if "text/html" in request.headers.get("accept", ""):
        return _file(request, "index.html", {"Vary": "Accept"})
    return Response("Ollama is running", media_type="text/plain", headers={"Vary": "Accept"})


async def static(request: Request) -> Response:
    """A file of the page."""
    return _file(request, request.path_params["file"], {})


async def markdown(request: Request) -> Response:
    """Markdown as a piece of HTML that can do nothing."""
    wanted = await decoded(request, lambda data: convert(decode_object(data), MarkdownRequest))
    if len(wanted.text) > LONGEST:
        raise RequestError(f'"text" holds {len(wanted.text)} characters, more than the {LONGEST} allowed')
    html = await context(request).workers.run(to_bytes, wanted.text, client=request.state.client, limits=MARKDOWN_LIMITS)
    return Response(html, media_type=_TYPES["html"], headers=_HEADERS)


async def now(request: Request) -> Response:
    """Rates, errors and memory. Who may not manage the server sees the errors of its own requests only."""
    recent, scopes = context(request).recent, request.state.scopes
    sees_all = scopes is None or Scope.MANAGE in scopes
    memory = psutil.virtual_memory()
    errors = recent.errors(None if sees_all else request.state.client)
    return json_response(Now(recent.rates(), errors, Memory(memory.total, memory.available)))


def _file(request: Request, name: str, headers: dict[str, str]) -> Response:
    known = _contents()
    if name not in known:
        raise NotFound("404 page not found")
    content, tag = known[name]
    headers = _HEADERS | {"ETag": tag} | headers
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_TYPES[name.rpartition(".")[2]], headers=headers)


@cache
def _contents() -> dict[str, tuple[bytes, str]]:
    """Every file of the page with its entity tag."""
    found = {each.name: each.read_bytes() for each in _FILES.iterdir()}
    return {name: (content, f'"{hashlib.sha256(content).hexdigest()[:16]}"') for name, content in found.items()}
