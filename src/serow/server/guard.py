"""Who may speak to us: Host and Origin are checked on every bind, before anything is read (RES-05).

DNS rebinding (CVE-2024-28224): a web page's own name resolves to our address, so the Host it sends is foreign. Names
that only a local resolver gives, and addresses, can't be rebound. Cross-site pages: their Origin is foreign.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_ENDINGS = (".localhost", ".local", ".internal")
LOCAL_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0", "::1")
APP_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")
ALLOWED_HEADERS = b"authorization, content-type, user-agent, accept, x-requested-with"


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
    """ASGI middleware: 403 with an empty body for a foreign Host or Origin, CORS headers for the others."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...] = ()) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host, origin = (headers.get(name, b"").decode("latin-1").lower() for name in (b"host", b"origin"))
        if not _allows_host(host) or not self._allows_origin(origin, host):
            await _empty(send, 403)
        elif origin and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await _empty(send, 204, _cors(origin))
        else:
            await self._app(scope, receive, _with_cors(send, origin) if origin else send)

    def _allows_origin(self, origin: str, host: str) -> bool:
        if not origin or "*" in self._origins or origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
            name = parts.hostname or ""
        except ValueError:
            return False
        same = parts.netloc == host
        return parts.scheme in APP_SCHEMES or (parts.scheme in ("http", "https") and (same or name in LOCAL_HOSTS))


def _allows_host(host: str) -> bool:
    try:
        return is_local_name(hostname_of(host))
    except ValueError:
        return False


def _cors(origin: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"),
        (b"access-control-allow-headers", ALLOWED_HEADERS),
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
