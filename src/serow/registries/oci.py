"""A registry that speaks the OCI distribution protocol: Ollama's, Docker's, Harbor, GitLab, GHCR, Hugging Face's /v2/."""

import asyncio
import email.utils
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from serow.errors import NotAtRegistry, RegistryError, RegistryRefused, Unreachable
from serow.registries import manifests
from serow.registries.auth import DENIED, Authorizer
from serow.registries.base import Body, Busy, Found, Interrupted, LinkExpired
from serow.registries.credentials import Login
from serow.registries.http import BROKEN, Client, Response, architecture, origin, pieces, without_query
from serow.registries.words import words
from serow.store.manifest import MANIFEST_LIMIT, Layer
from serow.system.work import in_thread

_ERROR_LIMIT = 64 << 10  # bytes of an error's body that are read
_TOLD = 500  # characters of an error that are told
_MANIFEST_TRIES = 3
_LONGEST_WAIT = 600.0  # seconds that a registry can make us wait
_EXPIRED = (401, 403, 404, 410)


class OciRegistry:
    """One repository of a registry. `repository` is namespace and model."""

    def __init__(self, client: Client, repository: str, tag: str, login: Login | None = None) -> None:
        self.client = client
        self.host = client.host
        self.repository = repository
        self.tag = tag
        self._authorizer = Authorizer(client, login)
        self._links: dict[str, str] = {}  # to storage, by digest

    def retain(self) -> None:
        """Use the registry until `release`."""
        self.client.retain()

    async def release(self) -> None:
        """End a use; the last one closes the connections."""
        await self.client.release()

    async def url(self, what: str) -> str:
        """The address of something in the repository: `manifests/…`, `blobs/…`."""
        base = await self.client.base()
        await self._authorizer.prepare(base)
        return f"{base}/v2/{self.repository}/{what}"

    @asynccontextmanager
    async def open(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, data: Any = None, *, follow: bool = True
    ) -> AsyncIterator[Response]:
        """Ask, and once more when the registry wants to know who we are. Raises RegistryRefused for a second 401."""
        for is_last in (False, True):
            sent = self._authorizer.headers(url).get("Authorization", "")
            async with self.client.open(method, url, headers, data, follow=follow) as response:
                if response.status != 401 or origin(str(response.url)) != origin(url):
                    yield response
                    return
                challenges = response.headers.getall("WWW-Authenticate", [])
            if is_last or not challenges:
                raise RegistryRefused(DENIED)
            await self._authorizer.answer(sent, challenges)

    async def resolve(self) -> Found:
        """The manifest of the tag; raises NotAtRegistry, RegistryRefused, RegistryError."""
        try:
            data, content_type = await self._manifest(self.tag)
            found = await in_thread(manifests.parse_object, data)
            if manifests.is_index(found, content_type):
                data, _ = await self._manifest(manifests.choose(found, architecture()))
        except RegistryError as error:
            raise _about_manifest(error) from error
        return Found(data, await in_thread(manifests.check, data))

    async def _manifest(self, reference: str) -> tuple[bytes, str]:
        """Bytes and content type of a manifest. A busy registry or a broken connection is asked again, twice."""
        url = f"https://{self.host}/v2/{self.repository}/manifests/{reference}"
        for attempt in range(1, _MANIFEST_TRIES + 1):
            try:
                url = await self.url(f"manifests/{reference}")
                return await self._read_manifest(url)
            except Busy as busy:
                if attempt == _MANIFEST_TRIES:
                    raise Unreachable(busy.reason) from busy
                await asyncio.sleep(attempt if busy.seconds is None else busy.seconds)
            except BROKEN as error:
                if attempt == _MANIFEST_TRIES or not isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError):
                    raise Unreachable(f'Get "{without_query(url)}": {words(error)}') from error
                await asyncio.sleep(attempt)
        raise AssertionError

    async def _read_manifest(self, url: str) -> tuple[bytes, str]:
        async with self.open("GET", url, {"Accept": manifests.ACCEPT}) as response:
            if response.status == 404:
                raise NotAtRegistry("file does not exist")
            if response.status in (429, 503):
                raise Busy(await self._complaint(response), retry_after(response))
            if response.status != 200:
                text = await self._complaint(response)
                raise RegistryRefused(text) if response.status in (401, 403) else RegistryError(text)
            if response.content_type == "text/html":
                raise RegistryError(f"{self.host} is no registry: it answers with a page")
            data = await self.client.read(response, MANIFEST_LIMIT, "the manifest")
            manifests.check_digest(data, response.headers.get("Docker-Content-Digest", ""))
            return data, response.content_type

    async def _complaint(self, response: Response) -> str:
        """Status and words of an error."""
        text = await self.message(response)
        return f"{response.status}: {text}" if text else f"unexpected status code {response.status}"

    async def message(self, response: Response) -> str:
        """What a registry says is wrong: its error's message, printable and not long."""
        try:
            body = await response.content.read(_ERROR_LIMIT)
        except BROKEN:
            return ""
        return message_of(body) if response.content_type != "text/html" else ""

    @asynccontextmanager
    async def fetch(self, layer: Layer, first: int, last: int) -> AsyncIterator[Body]:
        """Bytes of a blob, from the storage that the registry has named before, or from the registry."""
        url = self._links.get(layer.digest) or await self._blob_url(layer)
        async with self.fetch_from(url, layer, first, last) as body:
            yield body

    @asynccontextmanager
    async def fetch_from(self, url: str, layer: Layer, first: int, last: int) -> AsyncIterator[Body]:
        """Bytes of a blob that lies at an address of the registry, or at the link that it gave for it."""
        link = self._links.get(layer.digest)
        try:
            async with self.open("GET", link or url, {"Range": f"bytes={first}-{last}"}) as response:
                is_link = link is not None or response.url != URL(url, encoded=True)
                if is_link:
                    self._links[layer.digest] = str(response.url)
                yield await self._body(response, layer, first, last, is_link)
        except BROKEN as error:
            raise Interrupted(words(error)) from error

    async def _blob_url(self, layer: Layer) -> str:
        try:
            return await self.url(f"blobs/{layer.digest}")
        except BROKEN as error:
            raise Interrupted(words(error)) from error

    async def _body(self, response: Response, layer: Layer, first: int, last: int, is_link: bool) -> Body:
        if response.status in _EXPIRED and is_link:
            self._links.pop(layer.digest, None)
            raise LinkExpired(f"unexpected status code {response.status}")
        if response.status in (429, 503):
            raise Busy(f"unexpected status code {response.status}", retry_after(response))
        if response.status >= 500 or response.status == 408:
            raise Interrupted(f"unexpected status code {response.status}")
        if response.status == 404:
            raise NotAtRegistry(f"file does not exist: {self.host} has no blob {layer.digest[:19]}")
        if response.status in (401, 403):
            text = await self.message(response)
            raise RegistryRefused(f"unexpected status code {response.status}{': ' * bool(text)}{text}")
        return check_range(response, self.host, first, last, layer.size)


def check_range(response: Response, host: str, first: int, last: int, size: int) -> Body:
    """The body, if it is the range that was asked for, or the whole (LIB-09); raises RegistryError."""
    if response.headers.get("Content-Encoding", "identity") not in ("identity", ""):
        raise RegistryError(f"{host} compresses what must come as it is")
    length = response.content_length
    if response.status == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        if total.isdigit() and int(total[:20]) != size:
            raise RegistryError(f"{host} has a blob of {total[:20]} bytes where the manifest says {size}")
        if response.headers.get("Content-Range", "") != f"bytes {first}-{last}/{size}":
            raise RegistryError(f"{host} sends another range than was asked for")
        if length is not None and length != last - first + 1:
            raise RegistryError(f"{host} sends another range than was asked for")
        return Body(first, False, pieces(response))
    if response.status != 200:
        raise RegistryError(f"unexpected status code {response.status}")
    if length is not None and length != size:
        raise RegistryError(f"{host} has a blob of {length} bytes where the manifest says {size}")
    return Body(0, True, pieces(response))


def retry_after(response: Response) -> float | None:
    """How long a registry wants us to wait, in seconds; at most ten minutes."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(min(int(text[:6]), _LONGEST_WAIT))
    try:
        moment = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(moment - time.time(), 0.0), _LONGEST_WAIT)


def message_of(body: bytes) -> str:
    """What the body of an error says: OCI's messages, `{"error": …}`, or its text; printable, 500 characters at most."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        found = body.decode("utf-8", "replace")
    text = "; ".join(_messages(found))
    return "".join(each if each.isprintable() else " " for each in text)[:_TOLD].strip()


def _messages(found: object) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, dict):
        if isinstance(found.get("error"), str):
            yield found["error"]
        for each in found["errors"] if isinstance(found.get("errors"), list) else ():
            if isinstance(each, dict) and (each.get("message") or each.get("code")):
                yield str(each.get("message") or each.get("code"))


def _about_manifest(error: RegistryError) -> RegistryError:
    """The same error, told as one of the manifest."""
    text = str(error)
    if text.startswith(("pull model manifest: ", "registry ")):
        return error
    hint = error.hint
    if text.startswith("412:"):
        hint = "the registry asks for a version of another program: try the model's file at Hugging Face, serow pull hf.co/…"
    return type(error)(f"pull model manifest: {text}", hint=hint)
