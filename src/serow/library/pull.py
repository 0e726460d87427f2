"""`pull`: a manifest, the blobs that are not here yet, and the manifest written last (LIB-05 to LIB-18)."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress

from serow.errors import (
    ModelFileError,
    NotAtRegistry,
    NotFound,
    PullError,
    RegistryError,
    RegistryRefused,
    StoreError,
    Unreachable,
)
from serow.library.download import Download, Line
from serow.library.downloads import Downloads
from serow.library.progress import Board, Counter, Item, Record, watched
from serow.library.rate import Rate
from serow.library.transfer import Pace
from serow.library.verify import mark_of
from serow.registries import caches
from serow.registries.access import Access
from serow.registries.asked import Asked
from serow.registries.base import Found, Interrupted, Place
from serow.registries.package_index import pull as catalog
from serow.registries.package_index import sources
from serow.registries.places import places
from serow.registries.translation import is_foreign, translated
from serow.store import gguf, layouts
from serow.store.blobs import disk_errors
from serow.store.links import link
from serow.store.manifest import CONFIG_LIMIT, TENSOR, WEIGHTS, Layer, decode_config
from serow.store.store import Store
from serow.system.units import human_bytes
from serow.system.work import in_thread, together

_MARGIN = 1 << 30  # bytes of disk that stay free
_MARGIN_SHARE = 100  # or the hundredth part of a disk that is small
_SOON = 3.0  # seconds
_PATIENCE = 60.0  # seconds for the beginning of a file
_LARGE = 64 << 20  # bytes of weights whose beginning is looked at first
_HEADS = (1 << 20, 16 << 20)  # bytes: the keys, and with the vocabulary the names of the tensors
_MANY_LAYERS, _MANY_LANES = 64, 16  # thousands of small layers come over more connections


class Pulls:
    """Pulls into one store; those that run at the same time share downloads and the limits of the server."""

    def __init__(self, store: Store, access: Access, connections: int = 4, rate: int = 0, pace: Pace | None = None) -> None:
        self._store = store
        self._access = access
        self._connections = connections
        self._rate = Rate(rate)
        self._pace = pace or Pace()
        self.downloads = Downloads(store.blobs, store.root / "downloads")

    async def pull(self, asked: Asked) -> AsyncGenerator[Record, None]:
        """Bring a model into the store; yields records without the last, "success". Raises RegistryError and its kin,
        PullError, StoreError, NotFound.
        """
        yield {"status": "pulling manifest"}
        if asked.is_catalog:
            async with aclosing(self._from_catalog(asked)) as records:
                async for record in records:
                    yield record
            return
        try:
            place, found = await self._resolve_soon(asked)
        except RegistryError as error:
            if isinstance(error, RegistryRefused) or not sources.has(asked.name):
                raise
            async with aclosing(self._from_catalog(asked, error)) as records:
                async for record in records:
                    yield record
            return
        try:
            async with aclosing(self._bring(asked, place, found)) as records:
                async for record in records:
                    yield record
        finally:
            await place.release()

    async def _from_catalog(self, asked: Asked, first: PullError | None = None) -> AsyncGenerator[Record, None]:
        """From the package index; what the registry said is told when that has nothing either (LIB-27)."""
        self._access.require_online("the package index")
        try:
            async with aclosing(catalog.pull(str(asked.name), self._store)) as records:
                async for record in records:
                    if record.get("status") not in ("pulling manifest", "success"):
                        yield record
        except (PullError, NotFound) as error:
            raise first or error from error

    async def _resolve_soon(self, asked: Asked) -> tuple[Place, Found]:
        """As `_resolve`; a model that the package index has, too, is not waited for where nothing answers."""
        if not sources.has(asked.name):
            return await self._resolve(asked)
        try:
            async with asyncio.timeout(_SOON):
                return await self._resolve(asked)
        except TimeoutError:
            host = asked.name.host
            raise Unreachable(f'pull model manifest: Get "https://{host}/v2/": no answer in {_SOON:.0f} s') from None

    async def _resolve(self, asked: Asked) -> tuple[Place, Found]:
        """The first place that has the model, retained, and what it has.

        A mirror's word counts unless it has nothing, or does not answer; of the two ways to ask a host the first one's.
        """
        failure: PullError | None = None
        for ways in places(asked, self._access):
            told: PullError | None = None
            for place in ways:
                place.retain()
                try:
                    return place, await place.resolve()
                except RegistryError as error:
                    await place.release()
                    told = told or error
                except BaseException:
                    await place.release()
                    raise
            failure = told
            if not isinstance(told, NotAtRegistry | Unreachable):
                break
        assert failure is not None
        raise failure

    async def _bring(self, asked: Asked, place: Place, found: Found) -> AsyncGenerator[Record, None]:
        if is_foreign(found):
            found = translated(found)
        await self._refuse_foreign_layout(asked, place, found)
        for note in found.notes:
            yield {"status": note}
        digests = [layer.digest for layer in found.blobs]
        self._store.hold(digests)
        try:
            async with aclosing(self._fetch(asked, place, found)) as records:
                async for record in records:
                    yield record
            yield {"status": "verifying sha256 digest"}
            yield {"status": "writing manifest"}
            if await in_thread(self._store.put_manifest, asked.name, found.data):
                yield {"status": "removing unused layers"}
        finally:
            await in_thread(self._store.release, digests)

    async def _refuse_foreign_layout(self, asked: Asked, place: Place, found: Found) -> None:
        """Raise ModelFileError for weights that only Ollama reads, before they are fetched (LIB-39)."""
        weights = found.manifest.last(WEIGHTS)
        top = found.manifest.config
        if weights is None or weights.size < _LARGE or not top.size or self._store.blobs.has(weights.digest):
            return
        content = found.content.get(top.digest)
        content = await _beginning(place, top, CONFIG_LIMIT) if content is None else content
        if content is None:
            return
        config = decode_config(content)
        if not {config.model_family, *(config.model_families or ())} & layouts.SUSPECTS:
            return
        for most in _HEADS:
            if (data := await _beginning(place, weights, most)) is None:
                return
            head, is_whole = await in_thread(gguf.peek, data)
            if words := layouts.refusal(asked.name.display_shortest, layouts.instead_of(head, is_whole=is_whole)):
                raise ModelFileError(words)
            if is_whole:
                return

    async def _fetch(self, asked: Asked, place: Place, found: Found) -> AsyncGenerator[Record, None]:
        items: list[Item[Download]] = [Item(layer) for layer in found.blobs]
        await in_thread(self._look, items)
        await in_thread(self._put_content, found, items)
        missing = [item for item in items if not item.is_there]
        await in_thread(self._require_space, asked, missing)
        lanes = _MANY_LANES if len(items) > _MANY_LAYERS else self._connections
        line = Line(
            asyncio.Semaphore(lanes), Rate(asked.rate, self._rate), self._connections, self._pace, asked.name.display_shortest
        )
        coming = iter(missing)
        work = together(*(self._fetch_some(coming, place, line) for _ in range(lanes)))
        async with aclosing(watched(work, _board(items), missing)) as records:
            async for record in records:
                yield record

    def _look(self, items: list[Item[Download]]) -> None:
        """Find out what is here already."""
        blobs = self._store.blobs
        for item in items:
            is_there = blobs.has(item.layer.digest) and blobs.size(item.layer.digest) == item.layer.size
            item.is_there = is_there and not mark_of(self.downloads.folder, item.layer.digest).exists()

    def _put_content(self, found: Found, items: list[Item[Download]]) -> None:
        """Store the small blobs that came with the manifest, or are empty."""
        for item in items:
            content = b"" if not item.layer.size else found.content.get(item.layer.digest)
            if not item.is_there and content is not None and self._store.blobs.put(content)[0] == item.layer.digest:
                item.is_there = True

    def _require_space(self, asked: Asked, missing: list[Item[Download]]) -> None:
        """Raise StoreError when what is missing does not fit on the disk, with something left over."""
        root = self._store.root
        with disk_errors():
            root.mkdir(parents=True, exist_ok=True)
            usage = shutil.disk_usage(root)
        needed = sum(item.layer.size - self._allocated(item.layer.digest) for item in missing)
        if needed > 0 and usage.free < needed + min(_MARGIN, usage.total // _MARGIN_SHARE):
            raise StoreError(
                f"not enough disk space: {asked.name.display_shortest} needs {human_bytes(needed)}, "
                f"{human_bytes(usage.free)} are free in {root}",
                hint="remove a model: serow rm NAME; or name another disk in SEROW_MODELS",
            )

    def _allocated(self, digest: str) -> int:
        """Bytes of disk that an earlier try has taken for a blob."""
        with suppress(OSError):
            return (self.downloads.folder / digest.replace(":", "-")).stat().st_blocks * 512
        return 0

    def _take_cached(self, layer: Layer) -> bool:
        """Whether another program's file is the blob, and is one now."""
        path = caches.find(layer, self._access.environ, self._store.root)
        if path is None:
            return False
        self._store.blobs.root.mkdir(parents=True, exist_ok=True)
        return link(path, self._store.root, layer.digest) or self._store.blobs.add(path) == layer.digest

    async def _fetch_some(self, coming: Iterator[Item[Download]], place: Place, line: Line) -> None:
        for item in coming:
            while not item.is_there:
                if await in_thread(self._take_cached, item.layer):
                    item.is_there = True
                    break
                item.ticket = self.downloads.join(item.layer, place, line)
                try:
                    await item.ticket.wait()
                except PullError:
                    if not item.ticket.may_ask_again:
                        raise
                else:
                    item.is_there = True


async def _beginning(place: Place, layer: Layer, most: int) -> bytes | None:
    """The first bytes of a blob; None when they take too long to be waited for."""
    data = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE), place.fetch(layer, 0, min(most, layer.size) - 1) as body:
            async for chunk in body.chunks:
                data += chunk
                if len(data) >= most:
                    break
    except TimeoutError:
        return None
    except Interrupted as error:
        raise RegistryError(error.reason) from error
    return bytes(data[:most])


def _board(items: list[Item[Download]]) -> Board:
    """A counter for each layer; one for all of them when a model is made of tensors (LIB-40)."""
    if any(item.layer.media_type == TENSOR for item in items):
        total = sum(item.layer.size for item in items)
        return Board([Counter("pulling model", "sha256:model", total, lambda: sum(item.completed for item in items))])
    return Board([item.counter("pulling") for item in items])
