"""A row of the table of routes."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, compile_path

from serow.errors import MissingScope
from serow.keys import Scope
from serow.server.responses import MEDIA_JSON

Handler = Callable[[Request], Awaitable[Response]]
PUBLIC: Literal["public"] = "public"  # no key is asked for: what tells that a server is there


class PublicPaths:
    """The paths of the public ones among operations: `path in paths`."""

    def __init__(self, operations: Iterable["Operation"]) -> None:
        self._patterns = [compile_path(operation.path)[0] for operation in operations if operation.scope == PUBLIC]

    def __contains__(self, path: object) -> bool:
        return any(pattern.match(str(path)) for pattern in self._patterns)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """How to ask, who may, and what comes back.

    `body` and `answer` are types, None where a media type says enough. With `is_stream` the answer is NDJSON of the same
    type, unless the body's `stream` is false.
    """

    method: str
    path: str
    scope: Scope | Literal["public"]  # what a key must be for
    handler: Handler
    summary: str
    body: type[Struct] | None = None
    takes_bytes: bool = False
    takes: Sequence[str] = ()  # media types of a body that no type describes
    flag: str = ""  # of the query
    answer: type[Struct] | None = None
    answer_type: str = MEDIA_JSON
    is_stream: bool = False
    has_events: bool = False  # with `stream` the answer is server-sent events

    def route(self) -> Route:
        """What Starlette needs of it."""
        path = self.path.replace("{model}", "{model:path}")  # names hold slashes
        return Route(path, self._answer, methods=[self.method], name=f"{self.method} {self.path}")

    async def _answer(self, request: Request) -> Response:
        """Raises MissingScope for a key that is not for this."""
        scopes: frozenset[Scope] | None = request.state.scopes
        if self.scope != PUBLIC and scopes is not None and self.scope not in scopes:
            raise MissingScope(f'forbidden: this API key lacks the scope "{self.scope}"')
        return await self.handler(request)
