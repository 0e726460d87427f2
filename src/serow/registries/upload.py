"""One blob on its way to a registry (LIB-22): asked for, mounted from another repository, or sent in pieces.

    1. HEAD: 200, it is there;
    2. POST, with `mount` and `from` where another repository may have it: 201, it is there now; 202, an upload at `Location`;
    3. PATCH for each piece, one after the other, each to the `Location` of the answer before it;
       307: the piece goes to storage by PUT, without Authorization;
    4. PUT with the digest: 201.

A connection that breaks: GET says how much came, and it goes on there. An upload that the registry has forgotten is begun anew.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from serow.errors import RegistryError, RegistryRefused, RequestError
from serow.registries.base import Busy, Interrupted
from serow.registries.http import BROKEN, Response, without_query
from serow.registries.oci import OciRegistry, retry_after
from serow.registries.words import words
from serow.store.manifest import Layer
from serow.system.work import in_thread

_PIECE = 32 << 20  # bytes of a PATCH
_CHUNK = 1 << 20  # bytes that are read at once
_GONE = (400, 404, 410)  # the upload, not the repository


Arrived = Callable[[int], None]
Take = Callable[[int], Awaitable[None]]


class UploadLost(Interrupted):
    """The registry knows the upload no more: it is begun anew."""


class _NoPatch(Exception):
    """The registry takes no pieces."""


@dataclass
class _Session:
    """An upload: where its next piece goes, how much has come, the MD5s of pieces that went to storage."""

    location: str
    sent: int = 0
    etags: bytes = b""
    num_stored: int = 0
    piece: int = _PIECE
    is_broken: bool = False


class Upload:
    """One blob of a file on this disk. `arrived` is told how many bytes are there, `take` waits until
    more may go. Raises RegistryError, Interrupted."""

    def __init__(
        self,
        registry: OciRegistry,
        layer: Layer,
        path: Path,
        arrived: Arrived,
        take: Take,
    ) -> None:
        self._registry = registry
        self._layer = layer
        self._path = path
        self._arrived = arrived
        self._take = take
        self._session: _Session | None = None
        self._takes_patch = True

    async def is_there(self) -> bool:
        """Whether the registry has the blob."""
        url = f"https://{self._registry.host}/v2/"
        try:
            url = await self._registry.url(f"blobs/{self._layer.digest}")
            async with self._registry.open("HEAD", url) as response:
                if response.status in (401, 403):
                    raise RegistryRefused(f"unexpected status code {response.status}")
                return response.status == 200
        except BROKEN as error:
            raise RegistryError(f'Head "{without_query(url)}": {words(error)}') from error

    async def send(self, mount: str) -> None:
        """Send the blob, going on with what an earlier try has sent; `mount` is a repository that may have it."""
        try:
            if self._session is None and not await self._begin(mount):
                return
            await self._send_pieces() if self._takes_patch else await self._send_whole()
        except _NoPatch:
            self._takes_patch, self._session = False, None
            raise UploadLost("the registry takes no pieces") from None
        except BROKEN as error:
            if self._session is not None:
                self._session.is_broken = True
            raise Interrupted(words(error)) from error

    async def _begin(self, mount: str) -> bool:
        """Whether there is an upload now; there is none when the blob was mounted."""
        query = f"?mount={quote(self._layer.digest, safe=':')}&from={quote(mount, safe='/')}" if mount else ""
        url = await self._registry.url(f"blobs/uploads/{query}")
        async with self._registry.open("POST", url, {"Content-Length": "0"}, follow=False) as response:
            if response.status == 201:
                return False
            if response.status != 202:
                await self._refuse(response)
            piece = response.headers.get("OCI-Chunk-Min-Length", "")
            least = int(piece) if piece.isdigit() and int(piece) < 1 << 33 else 0
            self._session = _Session(self._next(response, url), piece=max(_PIECE, least))
        return True

    def _next(self, response: Response, url: str) -> str:
        """Where the upload goes on; raises RegistryError for a place that we don't let ourselves be sent to."""
        text = response.headers.get("Docker-Upload-Location") or response.headers.get("Location")
        if not text:
            raise RegistryError(f"{self._registry.host} names no place for the upload")
        return self._registry.client.location(url, text)

    async def _refuse(self, response: Response) -> None:
        """Raise what an answer means that is not the one hoped for."""
        text = await self._registry.message(response)
        repository = self._registry.repository
        if repository != repository.lower() and (response.status == 404 or "invalid" in text.lower() or "NAME" in text):
            raise RequestError(f"registries know lower case only: serow cp {repository} {repository.lower()}")
        if response.status in (429, 503):
            raise Busy(f"unexpected status code {response.status}", retry_after(response))
        if response.status in (401, 403):
            raise RegistryRefused(f"unexpected status code {response.status}{': ' * bool(text)}{text}")
        if response.status >= 500:
            raise Interrupted(f"unexpected status code {response.status}")
        raise RegistryError(f"unexpected status code {response.status}{': ' * bool(text)}{text}")

    async def _send_pieces(self) -> None:
        session = self._session
        assert session is not None
        await self._find_place(session)
        while session.sent < self._layer.size:
            await self._patch(session, min(session.piece, self._layer.size - session.sent))
        etag = f"&etag={hashlib.md5(session.etags).hexdigest()}-{session.num_stored}" if session.num_stored else ""
        await self._finish(session.location, f"digest={quote(self._layer.digest)}{etag}", None, 0)

    async def _find_place(self, session: _Session) -> None:
        """After a break: how much the registry has."""
        if not session.is_broken or session.num_stored:
            return
        async with self._registry.open("GET", session.location, follow=False) as response:
            first, _, last = response.headers.get("Range", "").removeprefix("bytes=").partition("-")
            if response.status != 204 or first != "0" or not last.isdigit() or int(last) >= self._layer.size:
                self._session = None
                raise UploadLost("the registry has forgotten the upload")
            session.sent = int(last) + 1 if int(last) else 0  # "0-0" is nothing
            session.is_broken = False
            session.location = self._next(response, session.location) if "Location" in response.headers else session.location

    async def _patch(self, session: _Session, length: int) -> None:
        first = session.sent
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
            "Content-Range": f"{first}-{first + length - 1}",
            "X-Redirect-Uploads": "1",
        }
        body = self._read(first, length)
        async with self._registry.open("PATCH", session.location, headers, body, follow=False) as response:
            if response.status == 307 and "Location" in response.headers:
                await self._store(session, response, first, length)
            elif response.status == 405 and not first:
                raise _NoPatch
            elif response.status in (*_GONE, 416):
                text = await self._registry.message(response)
                if response.status == 404 and not first and "upload" not in text.lower():
                    raise _NoPatch  # it knows the upload, and not what a PATCH is
                self._lose(response.status, text)
            elif response.status not in (200, 201, 202, 204):
                await self._refuse(response)
            else:
                session.location = self._next(response, session.location)
        session.sent = first + length
        self._arrived(session.sent)

    def _lose(self, status: int, text: str) -> None:
        """The upload can't go on: where it is known it goes on at another place, else it is begun anew."""
        if status != 416:
            self._session = None
        elif self._session is not None:
            self._session.is_broken = True
        raise UploadLost(f"unexpected status code {status}: {text}")

    async def _store(self, session: _Session, response: Response, first: int, length: int) -> None:
        """Send a piece to storage, which is told nothing of who we are."""
        target = self._registry.client.location(session.location, response.headers["Location"])
        if "Docker-Upload-Location" in response.headers:
            session.location = self._next(response, session.location)
        md5 = hashlib.md5()
        body, headers = self._read(first, length, md5), {"Content-Length": str(length)}
        async with self._registry.client.open("PUT", target, headers, body, follow=False) as answer:
            if answer.status not in (200, 201, 204):
                raise Interrupted(f"unexpected status code {answer.status}")
        session.etags, session.num_stored = session.etags + md5.digest(), session.num_stored + 1

    async def _send_whole(self) -> None:
        assert self._session is not None
        location, self._session = self._session.location, None
        await self._finish(location, f"digest={quote(self._layer.digest)}", self._read(0, self._layer.size), self._layer.size)
        self._arrived(self._layer.size)

    async def _finish(self, location: str, query: str, body: AsyncIterator[bytes] | None, length: int) -> None:
        url = f"{location}{'&' if urlsplit(location).query else '?'}{query}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        async with self._registry.open("PUT", url, headers, body, follow=False) as response:
            if response.status in (200, 201, 204):
                return
            if response.status in (*_GONE, 416):
                self._session = None
                self._lose(response.status, await self._registry.message(response))
            await self._refuse(response)

    async def _read(self, first: int, length: int, md5: "hashlib._Hash | None" = None) -> AsyncIterator[bytes]:
        file = await in_thread(lambda: self._path.open("rb"))
        try:
            await in_thread(file.seek, first)
            sent = 0
            while sent < length:
                data = await in_thread(file.read, min(_CHUNK, length - sent))
                if not data:
                    raise RegistryError("a file of the model is shorter than its manifest says")
                if md5 is not None:
                    md5.update(data)
                await self._take(len(data))
                yield data
                sent += len(data)
                self._arrived(first + sent)
        finally:
            file.close()
