"""`push`: the blobs that the registry lacks, and then the manifest, with the bytes that it has here (LIB-21 to LIB-23)."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path

from serow.errors import InvalidModelName, ModelFileError, PullError, RegistryError, RegistryRefused
from serow.library.progress import Board, Item, Record, watched
from serow.library.rate import Rate
from serow.library.sharing import Table
from serow.library.transfer import Pace, Persistence, Tries
from serow.registries.access import Access
from serow.registries.asked import Asked
from serow.registries.base import Interrupted
from serow.registries.http import BROKEN, without_query
from serow.registries.oci import OciRegistry
from serow.registries.places import registry
from serow.registries.upload import Upload, UploadLost
from serow.registries.words import words
from serow.store.manifest import MANIFEST, Layer, Manifest, decode_manifest
from serow.store.name import Name
from serow.store.store import Store
from serow.system.work import in_thread, together

_REMEMBERED = 10_000  # blobs
_RESTARTS = 3  # of an upload that the registry has forgotten


class _Sending:
    """A blob that goes to a registry, once for all pushes that want it there."""

    def __init__(self, place: OciRegistry, layer: Layer, pushes: "Pushes", rate: Rate, pace: Pace) -> None:
        self.place = place
        self.layer = layer
        self.completed = 0  # bytes, never less than before
        self.notes: list[str] = []
        self._pushes = pushes
        self._pace = pace
        self._upload = Upload(place, layer, pushes.path(layer), self._arrived, rate.take)

    def _arrived(self, count: int) -> None:
        self.completed = max(self.completed, count)

    async def run(self) -> None:
        """Send it; raises RegistryError and its kin."""
        self.place.retain()
        try:
            if not await self._upload.is_there():
                await self._send()
        finally:
            await self.place.release()
        self._pushes.remember(self.place, self.layer)
        self.completed = self.layer.size

    async def _send(self) -> None:
        shared = Persistence(self._pace, self.notes.append)
        tries, restarts = Tries(shared, self.place.host), 0
        while True:
            await shared.ready()
            before = self.completed
            try:
                await self._upload.send(self._pushes.mount(self.place, self.layer))
                return
            except Interrupted as failure:
                if self.completed > before:
                    tries.brought()
                restarts += isinstance(failure, UploadLost)
                if restarts > _RESTARTS:
                    raise RegistryError(failure.reason) from failure
                if not isinstance(failure, UploadLost):
                    await tries.again(failure)


class Pushes:
    """Pushes from one store; those of the same blob to the same repository share the upload."""

    def __init__(self, store: Store, access: Access, connections: int = 4, rate: int = 0, pace: Pace | None = None) -> None:
        self._store = store
        self._access = access
        self._connections = connections
        self._rate = Rate(rate)
        self._pace = pace or Pace()
        self._running: Table[_Sending] = Table()
        self._known: dict[tuple[str, str], str] = {}  # a repository that has a blob, by host and digest

    def path(self, layer: Layer) -> Path:
        """Where a blob lies."""
        return self._store.blobs.path(layer.digest)

    def remember(self, place: OciRegistry, layer: Layer) -> None:
        """A repository has a blob now: others of the registry can take it from there."""
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[place.host, layer.digest] = place.repository

    def mount(self, place: OciRegistry, layer: Layer) -> str:
        """Another repository of the registry that may have a blob; "" when none is known."""
        known = self._known.get((place.host, layer.digest)) or _repository(layer.parent)
        return "" if known == place.repository else known

    async def push(self, asked: Asked) -> AsyncGenerator[Record, None]:
        """Bring a model to its registry; yields records. Raises ModelNotFound, ModelFileError, RegistryError and its kin."""
        yield {"status": "retrieving manifest"}
        data = await in_thread(self._data, asked.name)
        place = registry(asked, self._access)
        place.retain()
        try:
            async with aclosing(self._push(asked, place, data)) as records:
                async for record in records:
                    yield record
        except RegistryRefused as error:
            raise _denied(asked.name, error) from error
        finally:
            await place.release()

    def _data(self, name: Name) -> bytes:
        """The manifest's bytes, once every blob was found whole."""
        data = self._store.manifest_data(name)
        for layer in _blobs(decode_manifest(data)):
            if not self._store.blobs.has(layer.digest) or self._store.blobs.size(layer.digest) != layer.size:
                raise ModelFileError(f"the blob {layer.digest} is missing or has another size than the manifest says")
        return data

    async def _push(self, asked: Asked, place: OciRegistry, data: bytes) -> AsyncGenerator[Record, None]:
        layers = _blobs(decode_manifest(data))
        for is_last in (False, True):
            items: list[Item[_Sending]] = [Item(layer) for layer in layers]
            coming, rate = iter(items), Rate(asked.rate, self._rate)
            work = together(*(self._send_some(coming, place, rate) for _ in range(self._connections)))
            board = Board([item.counter("pushing") for item in items])
            async with aclosing(watched(work, board, items)) as records:
                async for record in records:
                    yield record
            yield {"status": "pushing manifest"}
            if await self._put_manifest(place, data, is_last=is_last):
                return

    async def _send_some(self, coming: Iterator[Item[_Sending]], place: OciRegistry, rate: Rate) -> None:
        for item in coming:
            key = place.host, place.repository, item.layer.digest
            while not item.is_there:
                item.ticket = self._running.join(key, partial(_Sending, place, item.layer, self, rate, self._pace))
                try:
                    await item.ticket.wait()
                except PullError:
                    if not item.ticket.may_ask_again:
                        raise
                else:
                    item.is_there = True

    async def _put_manifest(self, place: OciRegistry, data: bytes, *, is_last: bool) -> bool:
        """Whether the registry has taken the manifest; not, when it lacks a blob and is to be asked once more."""
        url = f"https://{place.host}/v2/"
        try:
            url = await place.url(f"manifests/{place.tag}")
            async with place.open("PUT", url, {"Content-Type": _media_type(data)}, data, follow=False) as response:
                if response.status in (200, 201, 202):
                    return True
                text = await place.message(response)
        except BROKEN as error:
            raise RegistryError(f'Put "{without_query(url)}": {words(error)}') from error
        if response.status in (401, 403):
            raise RegistryRefused(f"unexpected status code {response.status}")
        if response.status == 400 and not is_last and "blob" in text.lower():
            self._known.clear()
            return False
        raise RegistryError(f"unexpected status code {response.status}{': ' * bool(text)}{text}")


def _blobs(manifest: Manifest) -> list[Layer]:
    """What has to be there, each digest once: layers in order, the config last."""
    return list({layer.digest: layer for layer in (*manifest.layers, manifest.config)}.values())


def _media_type(data: bytes) -> str:
    return decode_manifest(data).media_type or MANIFEST


def _repository(parent: str) -> str:
    """Where the model that a layer was taken from would be; "" for a layer that says nothing of it."""
    try:
        name = Name.parse(parent)
    except InvalidModelName:
        return ""
    return f"{name.namespace}/{name.model}"


def _denied(name: Name, error: RegistryRefused) -> RegistryRefused:
    """The same refusal, in the words of a push."""
    if str(error).startswith(("registry ", "realm host ")):
        return error
    return RegistryRefused(f"push access denied for {name.display_shortest}", hint=error.hint)
