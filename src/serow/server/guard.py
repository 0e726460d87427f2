"""Who may speak to us: Host, Origin and key are checked before anything is read (RES-05).

DNS rebinding (CVE-2024-28224): a web page's own name resolves to our address, so the Host it sends is foreign. Names
that only a local resolver gives, and addresses, can't be rebound. Cross-site pages: their Origin is foreign.
"""

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serow.errors import HeaderTooLarge, MissingScope, SerowError, Unauthorized
from serow.keys import Key, Keyring
from serow.keys import Scope as KeyScope
from serow.server.responses import error_response

LOCAL_ENDINGS = (".localhost", ".local", ".internal")
LOCAL_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0", "::1")
APP_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")
ALLOWED_HEADERS = b"authorization, content-type, user-agent, accept, x-requested-with"
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]*")  # of RFC 9110, listed

KEYLESS_PATHS = ("/", "/api/version")  # what tells that a server is there
MANAGED_PATHS = ("/api/create", "/api/copy", "/api/delete", "/api/pull", "/api/push")
MANAGED_TREES = ("/api/blobs/",)


def hostname_of(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    return (urlsplit(f"//{host}").hostname or "") if host else ""


def is_local_name(name: str) -> bool:
    """Whether a host name is an address, this machine or a name that only a local resolver gives."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in ("", "localhost", socket.gethostname().lower()) or name.endswith(LOCAL_ENDINGS)
    return True


class Guard:
    """ASGI middleware: 403 with an empty body for a foreign Host or Origin, CORS headers for the others.

    `origins` and `hosts` are allowed beside the local ones; one "*" in an origin stands for any text.
    """

    def __init__(
        self, app: ASGIApp, origins: tuple[str, ...] = (), hosts: tuple[str, ...] = (), max_header: int = 64 << 10
    ) -> None:
        self._app = app
        self._origins = [origin.lower().partition("*") for origin in origins]
        self._hosts = tuple(host.lower() for host in hosts)
        self._max_header = max_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host, origin = (headers.get(name, b"").decode("latin-1").lower() for name in (b"host", b"origin"))
        if not self._allows_host(host) or not self._allows_origin(origin, host):
            await _empty(send, 403)
        elif header_size(scope) > self._max_header:
            error = HeaderTooLarge(f"the request line and headers are larger than {self._max_header} bytes")
            await error_response(error)(scope, receive, send)
        elif origin and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await _empty(send, 204, _cors(origin, headers.get(b"access-control-request-headers", b"")))
        else:
            await self._app(scope, receive, _with_cors(send, origin) if origin else send)

    def _allows_host(self, host: str) -> bool:
        try:
            name = hostname_of(host)
        except ValueError:
            return False
        return is_local_name(name) or name in self._hosts

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
    """ASGI middleware: 401 without a valid key, 403 for one that lacks the scope; sets `state.client`, who asks.

    Without any key everybody may do everything, if the server `may_be_open`.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, *, may_be_open: bool = True) -> None:
        self._app = app
        self._keyring = keyring
        self._may_be_open = may_be_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            try:
                scope.setdefault("state", {})["client"] = self._identify(scope)
            except SerowError as error:
                app = _refusal(error)
        await app(scope, receive, send)

    def _identify(self, scope: Scope) -> str:
        """Who asks: the name of the key, else the address. Raises Unauthorized, MissingScope."""
        key = self._key(scope)
        if key is not None:
            return f"key {key.name}"
        address: str = scope["client"][0] if scope.get("client") else ""
        return address

    def _key(self, scope: Scope) -> Key | None:
        is_open = self._may_be_open and not self._keyring.is_set
        if is_open or scope["path"] in KEYLESS_PATHS:
            return None
        key = self._keyring.find(_secret(scope))
        if key is None:
            raise Unauthorized("unauthorized: a valid API key is needed, as Authorization: Bearer or x-api-key")
        if (needed := scope_of(scope["path"])) not in key.scopes:
            raise MissingScope(f'forbidden: this API key lacks the scope "{needed}"')
        return key


def scope_of(path: str) -> KeyScope:
    """What a key must be for on a path."""
    managed = path.rstrip("/") in MANAGED_PATHS or path.startswith(MANAGED_TREES)
    return KeyScope.MANAGE if managed else KeyScope.INFER


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
