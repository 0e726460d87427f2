"""The one HTTP client of the library: which hosts it asks, where it lets itself be sent, and who gets our credentials.

A client speaks to one registry, and to the storage and the token server that the registry names. Each hop is checked: its
scheme, and the address that its name stands for, which is then the address that is connected to (LIB-03). At most five
redirects are followed, never from https to http; `Authorization` goes to the registry's own origin only (LIB-14). Nothing is
decompressed, nothing is read without a limit.
"""

import asyncio
import os
import platform
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urldefrag, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from serow import __version__
from serow.errors import RegistryError, RegistryRefused
from serow.registries.access import Access, address_of
from serow.registries.address import is_public, literal
from serow.registries.connector import Connector

CHUNK = 1 << 20  # bytes
MAX_REDIRECTS = 5
PATIENCE = 30.0  # seconds without a byte after which a connection is given up
_PAGE_DEADLINE = 60.0  # seconds for a manifest, a config, a token
_RESOLVED_FOR = 60.0  # seconds
_GATHERED_FOR = 0.5  # seconds
_BUFFERED = 1 << 17  # bytes that aiohttp holds, and drops when a connection breaks
BROKEN = (aiohttp.ClientError, TimeoutError, OSError)  # what a connection fails with
_REDIRECTS = (301, 302, 303, 307, 308)
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF")

Response = aiohttp.ClientResponse
Origin = tuple[str, str, int]


def architecture() -> str:
    """This machine's architecture, as registries name it."""
    machine = platform.machine().lower()
    return _MACHINES.get(machine, machine)


USER_AGENT = f"Serow/{__version__} ({architecture()} {sys.platform})"


def origin(url: str) -> Origin:
    """Scheme, host and port: what credentials are bound to."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1  # none that can be connected to
    return parts.scheme, (parts.hostname or "").lower(), port or (443 if parts.scheme == "https" else 80)


def without_query(url: str) -> str:
    """A URL as it may be told and logged: links to storage carry their secrets in the query."""
    parts = urlsplit(url)
    return parts._replace(query="", fragment="", netloc=parts.netloc.rpartition("@")[2]).geturl()


class _Checked(AbstractResolver):
    """Gives the connector the addresses that were checked, and no others."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, list[tuple[int, str]]]] = {}

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """What `look_up` found for the host a moment ago."""
        if host not in self.found:
            raise OSError("the address was not checked")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in self.found[host][1]
        ]

    async def close(self) -> None:
        """Nothing is held."""

    async def look_up(self, host: str) -> list[str]:
        """The addresses of a name, looked up at most once a minute; raises OSError."""
        known = self.found.get(host)
        if known is None or known[0] < time.monotonic():
            infos = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
            addresses = [(int(kind), str(address[0])) for kind, _, _, _, address in infos]
            known = self.found[host] = (time.monotonic() + _RESOLVED_FOR, addresses)
        return [address for _, address in known[1]]

    def keep(self, host: str, admitted: list[str]) -> None:
        """Leave only these addresses of a name."""
        until, addresses = self.found[host]
        self.found[host] = until, [each for each in addresses if each[1] in admitted]


@lru_cache(maxsize=4)  # reading the system's authorities takes a tenth of a second
def _verified(bundle: str) -> ssl.SSLContext:
    """How servers are verified: by the system's authorities and those of a file or folder; raises RegistryError."""
    context = ssl.create_default_context()
    try:
        is_folder = bundle != "" and os.path.isdir(bundle)  # noqa: PTH112 - a variable's text, not a path of ours
        if bundle:
            context.load_verify_locations(capath=bundle) if is_folder else context.load_verify_locations(cafile=bundle)
    except OSError as error:
        raise RegistryError(f"the certificates of {bundle} can't be read", hint="see SSL_CERT_FILE") from error
    return context


def _blind() -> ssl.SSLContext:
    """How the one of an insecure registry is not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _bundle(environ: Mapping[str, str]) -> str:
    return environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or ""


class Client:
    """Requests for one registry: `async with client:` or `retain` and `release`, for as long as somebody uses it.

    `is_trusted`: who names the registry is on this machine, or is its owner. `base` is another URL to ask instead, a mirror.
    """

    def __init__(self, access: Access, host: str, *, is_trusted: bool, insecure: bool = False, base: str = "") -> None:
        self.access = access
        self.host = host
        self._is_trusted = is_trusted or bool(base)
        self._insecure = insecure
        self._base = base
        self._address = urlsplit(base or f"https://{address_of(host)}").hostname or host
        self._probing = asyncio.Lock()
        self._resolver = _Checked()
        self._session: aiohttp.ClientSession | None = None
        self._blind = _blind()
        self._num_users = 0
        self._own_addresses: set[str] = set()
        self.authorization: Callable[[str], Mapping[str, str]] = lambda _: {}  # headers that say who we are, to an address

    async def __aenter__(self) -> Self:
        self.retain()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()

    def retain(self) -> None:
        """Use the client until `release`."""
        self._num_users += 1

    async def release(self) -> None:
        """End a use; the last one closes the connections."""
        self._num_users -= 1
        if not self._num_users and self._session is not None:
            session, self._session = self._session, None
            await session.close()

    @property
    def insecure(self) -> bool:
        """Whether the registry itself may be asked without TLS, or with any certificate."""
        return self._insecure

    async def base(self) -> str:
        """The URL of the registry. One that may be insecure is asked by TLS first; http only if it speaks none (LIB-02)."""
        if not self._base and not self._insecure:
            self._base = f"https://{address_of(self.host)}"
        async with self._probing:
            if not self._base:
                self._base = f"{await self._scheme()}://{self.host}"
        return self._base

    async def _scheme(self) -> str:
        try:
            response = await self._send("GET", f"https://{self.host}/v2/", {}, None)
        except (aiohttp.ClientSSLError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if _speaks_no_tls(error):
                return "http"
            raise
        response.close()
        return "https"

    @asynccontextmanager
    async def open(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, data: Any = None, *, follow: bool = True
    ) -> AsyncIterator[Response]:
        """Ask, and follow redirects; the body is read by the caller.

        Raises RegistryError, RegistryRefused, Offline; aiohttp.ClientError, TimeoutError and OSError for a connection.
        """
        response = await self._follow(method, url, headers or {}, data, follow)
        try:
            yield response
        except BaseException:
            response.close()
            raise
        finally:
            response.release()

    async def _follow(self, method: str, url: str, headers: Mapping[str, str], data: Any, follow: bool) -> Response:
        home = origin(url)
        for _ in range(MAX_REDIRECTS + 1):
            sent = {**self.authorization(url), **headers} if origin(url) == home else _public(headers)
            response = await self._send(method, url, sent, data)
            if not follow or response.status not in _REDIRECTS or "Location" not in response.headers:
                return response
            response.close()
            url = self.location(url, response.headers["Location"])
        raise RegistryError(f"{self.host} redirects too often")

    def location(self, url: str, text: str) -> str:
        """Where a Location leads; raises RegistryError for an address that we don't let ourselves be sent to."""
        try:
            target = quote(urldefrag(urljoin(url, text)).url, safe="%/:=&?~#+!$,;'@()*[]")
            before, after = urlsplit(url), urlsplit(target)
            _ = after.port
        except ValueError:
            raise RegistryError(f"{self.host} redirects to an address that is none") from None
        if after.scheme not in ("http", "https") or not after.hostname:
            raise RegistryError(f"{self.host} redirects to an address that is none")
        if before.scheme == "https" and after.scheme == "http":
            raise RegistryError(f"{self.host} redirects from https to http")
        if after.username is not None or after.password is not None:
            raise RegistryError(f"{self.host} redirects to an address that holds a name or password")
        return target

    async def _send(self, method: str, url: str, headers: Mapping[str, str], data: Any) -> Response:
        self.access.require_online(self.host)
        proxy = self.access.proxies.for_url(url)
        await self._require_admitted(url, is_proxied=proxy is not None)
        _, host, _ = origin(url)
        is_blind = self._insecure and host == self._address.lower()
        context = self._blind if is_blind else await asyncio.to_thread(_verified, _bundle(self.access.environ))
        return await self._opened().request(
            method,
            URL(url, encoded=True),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
            data=data,
            allow_redirects=False,
            proxy=proxy,
            ssl=context,
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = Connector(resolver=self._resolver, use_dns_cache=False, limit=0, limit_per_host=0, keepalive_timeout=30)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE, sock_read=PATIENCE)
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                read_bufsize=_BUFFERED,
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _require_admitted(self, url: str, *, is_proxied: bool) -> None:
        """Raise RegistryRefused for an address that may not be asked; resolve a name to those that may."""
        _, host, port = origin(url)
        is_free = self.access.admits(host, port) or (self._is_trusted and host == self._address.lower())
        address = literal(host)
        if address is not None:
            self._admit(host, [str(address)], is_free=is_free)
        elif not is_proxied:
            admitted = self._admit(host, await self._resolver.look_up(host), is_free=is_free)
            self._resolver.keep(host, admitted)
        elif not is_free and (host == "localhost" or host.endswith((".localhost", ".local", ".internal"))):
            raise RegistryRefused(f"registry {host} is not allowed", hint="name it in SEROW_REGISTRIES")

    def _admit(self, host: str, addresses: list[str], *, is_free: bool) -> list[str]:
        """Those of a host's addresses that may be asked: public ones, and the private registry's own."""
        admitted = [each for each in addresses if is_free or is_public(each) or each in self._own_addresses]
        if not admitted:
            raise RegistryRefused(f"registry {host} is not allowed", hint="name it in SEROW_REGISTRIES")
        if host == self._address.lower():
            self._own_addresses.update(admitted)
        return admitted

    async def read(self, response: Response, limit: int, what: str) -> bytes:
        """A whole small body; raises RegistryError for one that is larger, compressed or too slow."""
        if response.headers.get("Content-Encoding", "identity") not in ("identity", ""):
            raise RegistryError(f"{self.host} compresses {what}, which was not asked for")
        body = bytearray()
        try:
            async with asyncio.timeout(_PAGE_DEADLINE):
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > limit:
                        raise RegistryError(f"{what} of {self.host} is larger than {limit} bytes")
        except TimeoutError:
            raise RegistryError(f"{what} of {self.host} takes longer than {_PAGE_DEADLINE:.0f} s") from None
        return bytes(body)


async def pieces(response: Response) -> AsyncIterator[bytes]:
    """A body in pieces that are worth a write each; what came before a connection breaks is given out before that is raised."""
    buffer, since = bytearray(), time.monotonic()
    broken: Exception | None = None
    try:
        async for chunk in response.content.iter_any():
            buffer += chunk
            if len(buffer) >= CHUNK or time.monotonic() - since > _GATHERED_FOR:
                data, buffer, since = bytes(buffer), bytearray(), time.monotonic()
                yield data
    except BROKEN as error:
        broken = error
    if buffer:
        yield bytes(buffer)
    if broken is not None:
        raise broken


def _public(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers without what says who we are."""
    return {name: value for name, value in headers.items() if name.lower() not in ("authorization", "cookie")}


def _speaks_no_tls(error: Exception) -> bool:
    """Whether a handshake failed because nothing there speaks TLS."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, aiohttp.ClientError):
            return any(mark in (cause.reason or str(cause)).upper().replace(" ", "_") for mark in _NO_TLS)
        if isinstance(cause, ConnectionResetError | aiohttp.ServerDisconnectedError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
