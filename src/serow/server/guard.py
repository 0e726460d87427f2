"""Who may speak to us: Host, Origin and key are checked before anything is read (RES-05).

DNS rebinding (CVE-2024-28224): a web page's own name resolves to our address, so the Host it sends is foreign. Names of
this machine, and addresses, can't be rebound. Cross-site pages: their Origin is foreign.
"""

import json
import logging
import re
from collections.abc import Container
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serow.errors import HeaderTooLarge, RequestError, SerowError, Unauthorized, UnsupportedEncoding
from serow.keys import Key, Keyring
from serow.server.address import client_of, hostname_of, is_local_name
from serow.server.exchange import current
from serow.server.responses import error_response

LOCAL_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0", "::1")
APP_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")
ALLOWED_HEADERS = b"authorization, content-type, user-agent, accept, x-requested-with, x-api-key"
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]*")  # of RFC 9110, listed
_SLASHES = re.compile("/{2,}")
_MOST_TOLD = 100  # names in the log that clients asked for

logger = logging.getLogger(__name__)


class Guard:
    """ASGI middleware: 403 with an empty body for a foreign Host or Origin, CORS headers for the others.

    `origins` and `hosts` are allowed beside the local ones; one "*" in an origin stands for any text.
    """

    def __init__(
        self, app: ASGIApp, origins: tuple[str, ...] = (), hosts: tuple[str, ...] = (), max_header: int = 64 << 10
    ) -> None:
        self._app = app
        self._origins = [origin.lower().partition("*") for origin in origins]
        self._hosts = [host.lower().partition("*") for host in hosts]
        self._max_header = max_header
        self._told: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["path"] = _SLASHES.sub("/", scope["path"])  # as clients make them of an address that ends in one
        current().path = scope["path"]  # by which an error finds its shape
        headers = dict(scope["headers"])
        host, origin = (headers.get(name, b"").decode("latin-1").lower() for name in (b"host", b"origin"))
        if (error := self._fault(scope)) is not None:
            await error_response(error)(scope, receive, send)
        elif b"host" in headers and not self._allows_host(host):  # HTTP/1.0 may have none; no browser speaks it
            self._tell("Host", host, "SEROW_HOSTS")
            await _empty(send, 403)
        elif not self._allows_origin(origin, host):
            self._tell("Origin", origin, "SEROW_ORIGINS")
            await _empty(send, 403)
        elif origin and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await _empty(send, 204, _cors(origin, headers.get(b"access-control-request-headers", b"")))
        else:
            await self._app(scope, receive, _with_cors(send, origin) if origin else send)

    def _fault(self, scope: Scope) -> SerowError | None:
        """What is wrong with the head as such."""
        num_hosts = sum(name == b"host" for name, _ in scope["headers"])
        if num_hosts > 1 or (num_hosts == 0 and scope.get("http_version") == "1.1"):
            return RequestError(f"a request needs one Host header, this one has {num_hosts}")
        if sum(name == b"origin" for name, _ in scope["headers"]) > 1:
            return RequestError("a request has one Origin header at most: which of several is checked would be a guess")
        if any(value.strip().lower() != b"chunked" for name, value in scope["headers"] if name == b"transfer-encoding"):
            return UnsupportedEncoding("Transfer-Encoding can only be chunked: name what packs a body in Content-Encoding")
        if header_size(scope) > self._max_header:
            return HeaderTooLarge(f"the request line and headers are larger than {self._max_header} bytes")
        return None

    def _tell(self, kind: str, value: str, setting: str) -> None:
        """Say once for each value what whoever runs the server may set."""
        value = value[:100]
        if value not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(value)
            logger.warning("refused the %s %s: if it is to be allowed, name it in %s", kind, json.dumps(value), setting)

    def _allows_host(self, host: str) -> bool:
        try:
            name = hostname_of(host)
        except ValueError:
            return False
        return is_local_name(name) or any(_fits(name, *allowed) for allowed in self._hosts)

    def _allows_origin(self, origin: str, host: str) -> bool:
        if not origin or any(_fits(origin, *allowed) for allowed in self._origins):
            return True
        try:
            parts = urlsplit(origin)
            name = parts.hostname or ""
        except ValueError:
            return False
        same = parts.netloc == host
        return parts.scheme in APP_SCHEMES or (parts.scheme in ("http", "https") and (same or name in LOCAL_HOSTS))


class RequireKey:
    """ASGI middleware: 401 without a valid key; sets `state.client`, who asks, and `state.scopes`, what the key is for.

    Without any key everybody may do everything, if the server `may_be_open`: the scopes are None then. `public` are the
    paths that need no key.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, public: Container[str] = (), *, may_be_open: bool = True) -> None:
        self._app = app
        self._keyring = keyring
        self._public = public
        self._may_be_open = may_be_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            try:
                self._check(scope)
            except SerowError as error:
                app = _refusal(error)
        await app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Note who asks: the name of the key, else the address. Raises Unauthorized."""
        state = scope.setdefault("state", {})
        state["scopes"] = None
        state["client"] = client_of(scope)
        is_open = self._may_be_open and not self._keyring.is_set
        if is_open or scope["path"] in self._public:
            return
        key = self._key(_secret(scope))
        state["client"] = f"key {key.name}"
        state["scopes"] = frozenset(key.scopes)

    def _key(self, secret: str) -> Key:
        if not secret:
            raise Unauthorized("unauthorized: an API key is needed, as Authorization: Bearer or x-api-key")
        key = self._keyring.find(secret)
        if key is None:
            raise Unauthorized("unauthorized: this API key is not valid here")
        return key


def header_size(scope: Scope) -> int:
    """Bytes of the request's target and headers."""
    target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    return target + sum(len(name) + len(value) + 4 for name, value in scope["headers"])


def _secret(scope: Scope) -> str:
    """The key that was sent: as a bearer's token, or in one of the headers that other APIs have (OAI-03, ANT-02)."""
    headers = dict(scope["headers"])
    text: str = headers.get(b"authorization", b"").decode("utf-8", "surrogateescape")
    kind, _, secret = text.partition(" ")
    if kind.lower() == "bearer" and secret.strip():
        return secret.strip()
    other: bytes = headers.get(b"x-api-key") or headers.get(b"api-key") or b""
    return other.decode("utf-8", "surrogateescape").strip()


def _refusal(error: SerowError) -> Response:
    answer = error_response(error)
    if isinstance(error, Unauthorized):
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _fits(origin: str, head: str, star: str, tail: str) -> bool:
    """Whether an origin is `head`, or with a `star` begins and ends as said."""
    if not star:
        return origin == head
    return len(origin) >= len(head) + len(tail) and origin.startswith(head) and origin.endswith(tail)


def _cors(origin: str, asked: bytes) -> list[tuple[bytes, bytes]]:
    """What an allowed origin may send: whatever header it asks for, since clients keep adding new ones (OAI-03)."""
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"),
        (b"access-control-allow-headers", asked if asked and _HEADER_NAMES.fullmatch(asked) else ALLOWED_HEADERS),
        (b"access-control-max-age", b"43200"),
        (b"vary", b"Origin"),
    ]


def _with_cors(send: Send, origin: str) -> Send:
    async def send_with_cors(message: Message) -> None:
        if message["type"] == "http.response.start":
            allowed = (b"access-control-allow-origin", origin.encode("latin-1"))
            message = {**message, "headers": [*message.get("headers", ()), allowed, (b"vary", b"Origin")]}
        await send(message)

    return send_with_cors


async def _empty(send: Send, status: int, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers or [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
