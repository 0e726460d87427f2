"""GET requests to a package index, with bounds on everything that it may answer.

Redirects are followed here, one by one: at most five, never from https to http, never into a private network unless the
index itself is in one, and credentials go to the index's own origin only. Nothing is decompressed on the way.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from serow.errors import PullError
from serow.registries.connector import Connector
from serow.registries.package_index.pip_config import PipConfig

CHUNK = 1 << 20  # bytes
MAX_REDIRECTS = 5
MAX_ATTEMPTS = 5  # connections in a row that bring nothing
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)
_REDIRECTS = {301, 302, 303, 307, 308}


def is_private(address: str) -> bool:
    """Whether an IP address belongs to this machine or to a network of its own."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return not ip.is_global


class _PublicResolver(ThreadedResolver):
    """Resolves names, and leaves out private addresses: a check before would not hold for the connection."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        results = [result for result in await super().resolve(host, port, family) if not is_private(result["host"])]
        if not results:
            raise OSError("only private addresses")
        return results


async def _is_in_private_network(host: str) -> bool:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return any(is_private(str(address[0])) for *_, address in found)


class Fetcher:
    """Requests to one index and to the files that it names."""

    def __init__(self, session: aiohttp.ClientSession, index: str, *, is_index_private: bool, proxy: str = "") -> None:
        self._session = session
        self._index = urlsplit(index)
        self._is_index_private = is_index_private
        self._proxy = proxy or None

    def _check(self, url: str, previous: str) -> None:
        """Raise PullError for an address that an index must not send us to."""
        parts = urlsplit(url)
        allowed = {"https"} if urlsplit(previous).scheme == "https" else {"http", "https"}
        if parts.scheme not in allowed or not parts.hostname:
            raise PullError("the package index refers to an address that is not allowed")
        try:
            is_blocked = is_private(parts.hostname) and not self._is_index_private
        except ValueError:
            return  # a name: the resolver looks at what it stands for
        if is_blocked:
            raise PullError("the package index refers into a private network")

    def _authorization(self, url: str) -> dict[str, str]:
        """The header for a URL's own credentials, or for the index's on the index's origin."""
        parts, index = urlsplit(url), self._index
        if parts.username is None and (parts.scheme, parts.hostname, parts.port) == (index.scheme, index.hostname, index.port):
            parts = index
        if parts.username is None:
            return {}
        return {"Authorization": aiohttp.encode_basic_auth(unquote(parts.username), unquote(parts.password or ""))}

    @asynccontextmanager
    async def get(self, url: str, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open `url`, or where it redirects to; raises PullError, aiohttp.ClientError, TimeoutError."""
        previous = self._index.geturl()
        for _ in range(MAX_REDIRECTS + 1):
            self._check(url, previous)
            bare, sent = _without_user(url), {**headers, **self._authorization(url)}
            async with self._session.get(bare, headers=sent, proxy=self._proxy, allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                previous, url = url, urljoin(url, response.headers.get("Location", ""))
        raise PullError("the package index redirects too often")

    async def page(self, url: str, accept: str, limit: int) -> tuple[str, str, bytes] | None:
        """A whole page as (its final address, content type, body); None when there is none. At most `limit` bytes."""
        async with self.get(url, {"Accept": accept, "Accept-Encoding": "identity"}) as response:
            if response.status in (404, 410):
                return None
            _require(response, 200)
            body = bytearray()
            async for chunk in response.content.iter_chunked(CHUNK):
                body += chunk
                if len(body) > limit:
                    raise PullError("the package index's page is too large")
            return str(response.url), response.content_type, bytes(body)

    async def download(self, url: str, path: Path, size: int) -> AsyncGenerator[int, None]:
        """Bring `path` to `size` bytes, going on from what it holds; yields how many it has. Raises PullError, OSError.

        A connection that breaks is taken up again where it ended, as long as each one brings something.
        """
        attempts = 0
        while (start := _size(path)) < size:
            try:
                async with aclosing(self._append(url, path, start, size)) as lengths:
                    async for length in lengths:
                        attempts = 0
                        yield length
            except (aiohttp.ClientError, TimeoutError) as error:
                attempts += 1
                if attempts >= MAX_ATTEMPTS:
                    raise PullError("the download broke off", hint="try again: it goes on where it ended") from error
                await asyncio.sleep(0.2 * 2**attempts)

    async def _append(self, url: str, path: Path, start: int, size: int) -> AsyncGenerator[int, None]:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        async with self.get(url, headers) as response:
            is_partial = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            if not is_partial:
                _require(response, 200)
                start = 0
            length = start
            with path.open("ab" if is_partial else "wb") as file:
                async for chunk in response.content.iter_chunked(CHUNK):
                    length += len(chunk)
                    if length > size:
                        raise PullError("the package index sends more than it should")
                    await asyncio.to_thread(file.write, chunk)
                    yield length
        if length < size:
            raise aiohttp.ClientPayloadError("the answer is too short")


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _require(response: aiohttp.ClientResponse, status: int) -> None:
    if response.status != status:
        raise PullError(f"the package index answers with status {response.status}")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise PullError("the package index compresses what must come as it is")


def _ssl_context(config: PipConfig) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=config.cert or None)
    except OSError as error:
        raise PullError("pip's certificate file can't be read", hint="see: pip config get global.cert") from error


@asynccontextmanager
async def connect(index: str, config: PipConfig) -> AsyncIterator[Fetcher]:
    """A Fetcher for one index, with pip's certificate authorities and proxy."""
    is_index_private = await _is_in_private_network(urlsplit(index).hostname or "")
    is_resolving = not is_index_private and not config.proxy and not getproxies()  # a proxy does it for us
    connector = Connector(
        ssl=await asyncio.to_thread(_ssl_context, config), resolver=_PublicResolver() if is_resolving else None
    )
    async with aiohttp.ClientSession(
        connector=connector, trust_env=True, auto_decompress=False, read_bufsize=CHUNK, timeout=_TIMEOUT
    ) as session:
        yield Fetcher(session, index, is_index_private=is_index_private, proxy=config.proxy)
