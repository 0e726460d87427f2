"""The model store: Ollama's directory of blobs and manifests, read and written side by side with Ollama.

    <root>/blobs/sha256-<hex>                        weights, templates, parameters, each under its digest
    <root>/manifests/<host>/<namespace>/<model>/<tag>    which blobs a name stands for
    <root>/pipelines/<hex>/                          text-to-image models, laid out as hard links to their blobs

Blobs appear whole and verified, manifests in one step. A blob goes when no manifest names it any more. Further stores may be
read beside the first: nothing is written there, and nothing removed (LIB-13).
"""

import asyncio
import hashlib
import logging
import math
import os
import re
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import TypeVar

from serow.errors import ModelFileError, ModelNotFound, RequestError, SerowError, StoreError
from serow.store import blobs as blob
from serow.store import pipeline
from serow.store.assembly import Assembler
from serow.store.blobs import Blobs, disk_errors, write_atomic
from serow.store.create import Draft, Recipe
from serow.store.heads import Heads
from serow.store.index import Index
from serow.store.links import is_changed
from serow.store.manifest import FOLDER_FILE, Layer, Manifest, decode_manifest
from serow.store.model import Model
from serow.store.name import Name
from serow.store.pipeline import folder_name
from serow.store.split import parts_of

logger = logging.getLogger(__name__)

_CACHED = 16_384  # names as asked for, and models
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)

_Stamp = tuple[int, int, int]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Store:
    """The one way to the models on disk. Methods block; those that may take more than a few milliseconds say so."""

    def __init__(self, root: Path, heads: Heads | None = None, *, may_prune: bool = True, further: Sequence[Path] = ()) -> None:
        self.root = root
        self.further = tuple(further)
        self.heads = heads or Heads()
        self._may_prune = may_prune
        self.blobs = Blobs(root / "blobs", [other / "blobs" for other in further])
        self.index = Index((root, *further))
        self._pipelines = root / "pipelines"
        self._assembler = Assembler(self.blobs, self._pipelines, self.heads)
        self._changing = Lock()  # between writing a manifest and removing blobs
        self._holding = Lock()  # around the next two
        self._held: Counter[str] = Counter()  # digests that something in progress is going to name
        self._kept: dict[str, float] = {}  # when somebody was told that a blob is here, by time.monotonic()
        self._released_later: set[str] = set()  # those of them that nothing else names any more
        self._names: dict[str, Name] = {}
        self._models: dict[str, tuple[_Stamp, Model]] = {}
        self._broken: set[str] = set()  # manifests that were named in the log

    def resolve(self, text: str) -> Model:
        """The model that a name stands for. Microseconds when its manifest is unchanged, else 10 to 100 ms.

        Raises InvalidModelName, ModelNotFound (also for ""), ModelFileError for a model that is broken.
        """
        path = self.index.look_up(self._name(text))
        model = None if path is None else self._model(path)
        if model is None:
            raise ModelNotFound(text)
        if any(is_changed(self.blobs.path(digest)) for digest in model.linked):
            raise ModelFileError(f"a file that {model.name.display_shortest} is linked to was changed: make the model again")
        return model

    async def find(self, text: str) -> Model:
        """`resolve` for the event loop: what is not in memory is read in a thread."""
        is_known = text in self._names and self.index.look_up(self._names[text]) in self._models
        return self.resolve(text) if is_known else await asyncio.to_thread(self.resolve, text)

    def list(self) -> list[Model]:
        """Every model that can be read, the newest first. Up to 100 ms for each that was not read before."""
        models: list[Model] = []
        for path in self.index.files():
            try:
                model = self._model(path)
            except (RequestError, StoreError) as error:
                self._name_broken(path, error)
                continue  # the others still list
            models += [] if model is None else [model]
        return sorted(models, key=lambda model: (-_modified(model), str(model.name)))

    def _name_broken(self, path: str, error: SerowError) -> None:
        """Say once which manifest can't be read."""
        if path not in self._broken:
            self._broken.add(path)
            logger.warning("the manifest %s can't be used: %s", self.index.shown(path), error)

    def has(self, name: Name) -> bool:
        """Whether there is a manifest of that name."""
        return self.index.look_up(name) is not None

    def manifest(self, name: Name) -> Manifest:
        """The manifest of a name; raises ModelNotFound, ModelFileError, StoreError."""
        return decode_manifest(self.manifest_data(name))

    def manifest_data(self, name: Name) -> bytes:
        """The bytes of a manifest, as they are; raises ModelNotFound, StoreError."""
        return self._data(self.index.find(name), name)

    def copy(self, source: Name, destination: Name) -> None:
        """Give a model a second name; raises ModelNotFound, ModelFileError, StoreError."""
        data = self.manifest_data(source)
        if source != destination:
            self.put_manifest(destination, data)

    def delete(self, name: Name) -> Path | None:
        """Remove a name, and the blobs that no other name needs; raises as `require_removable` does, and StoreError.

        Returns the further store that has a model of the name, too: it counts from now on.
        """
        with self._changing:
            paths = self.require_removable(name)
            removed = [self._data(path, name) for path in paths]
            for path in paths:
                self.index.remove(path)
                self._models.pop(str(path), None)
            self._remove_unused(set().union(*map(_digests, removed)))
            for data in removed:
                self._remove_pipeline(data)
        return self.further_of(name)

    def require_removable(self, name: Name) -> Sequence[Path]:
        """The manifests of a name that can be removed.

        Raises ModelNotFound, and RequestError for one that lies only in a store that is not written to.
        """
        paths = self.index.own(name)
        if not paths and (other := self.further_of(name)):
            raise RequestError(f"model '{name.display_shortest}' lies in {other}, which is only read", hint="remove it there")
        if not paths:
            raise ModelNotFound(name.display_shortest)
        return paths

    def further_of(self, name: Name) -> Path | None:
        """The store that a name's model is read from, if that is not the first one."""
        path = self.index.find(name)
        is_there = not self.index.is_own(path) and path.is_file()
        return next((root for root in self.further if is_there and path.is_relative_to(root / "manifests")), None)

    def hold_recipe(self, recipe: Recipe) -> Sequence[str]:
        """Hold everything that a recipe names, and return it, to be released. Raises ModelNotFound, StoreError."""
        named = (*(recipe.files or {}).values(), *recipe.adapters.values(), *recipe.draft_files.values())
        digests = [f"sha256:{blob.hex_of(digest)}" for digest in named]
        with self._changing:  # so that no deletion comes between the reading and the holding
            for name in filter(None, (recipe.source, recipe.draft)):
                digests += _digests(self.manifest_data(name))
            self.hold(digests)
        return digests

    def draft(self, recipe: Recipe) -> Draft:
        """Read and check everything that a recipe names, and write nothing. Blocks: up to 100 ms for each file.

        Raises RequestError and ModelFileError for a recipe that can't be followed, ModelNotFound for its source, StoreError.
        """
        base, guesser = (None if name is None else self.manifest_data(name) for name in (recipe.source, recipe.draft))
        return Draft.of(recipe, self.blobs, self.heads, base, guesser)

    def finish(self, name: Name, draft: Draft) -> Generator[str, None, None]:
        """Write a draft down under a name; yields what is done, as Ollama words it. Made when there is no next.

        What was written goes again when it fails, or is not taken to its end.
        """
        data, digests, new = draft.manifest(), draft.digests, []
        self.hold(digests)
        try:
            for digest, is_new in draft.write():
                new += [digest] if is_new else []
                yield f"{'creating new' if is_new else 'using existing'} layer {digest}"
            yield "writing manifest"
            self.put_manifest(name, data)
            new = []
        finally:
            self.release(digests, drop=[*new, digests[-1]])

    def create(self, name: Name, recipe: Recipe) -> Iterator[str]:
        """Make a model; yields what it does next. Raises as `draft` and `finish` do."""
        draft = self.draft(recipe)
        yield from draft.parsing
        yield from self.finish(name, draft)

    async def create_from_blob(self, name: str, digest: str) -> None:
        """Make a model of one uploaded or pulled GGUF; raises InvalidModelName, ModelFileError, StoreError."""
        recipe = Recipe(files={"model.gguf": digest})
        await asyncio.to_thread(lambda: [*self.create(Name.parse(name), recipe)])

    def put_manifest(self, name: Name, data: bytes) -> bool:
        """Let a name stand for a manifest, written as it is; whether an older one of the name had other blobs.

        Raises ModelFileError when it is broken or a blob is missing, StoreError.
        """
        manifest, path = decode_manifest(data), self.index.target(name)
        with self._changing:
            self._require_blobs(manifest)
            before = self.index.read(path) or b""
            replaced = _digests(before) - _digests(data)
            with disk_errors():
                write_atomic(path, data)
            self._remove_unused(replaced)
            self._remove_pipeline(before)
        return bool(replaced)

    def hold(self, digests: Iterable[str]) -> None:
        """Keep blobs, those that are here and those to come, although no manifest names them yet, until `release`."""
        with self._holding:
            self._held.update(digests)

    def release(self, digests: Iterable[str], *, drop: Iterable[str] = ()) -> None:
        """End a `hold`. What nothing names any more goes if it would have gone meanwhile, or is among `drop`. Blocks."""
        with self._holding:
            self._held.subtract(digests)
            self._held += Counter()  # without what nobody holds
            ready = {digest for digest in {*self._released_later, *drop} if not self._held[digest]}
            self._released_later -= ready
        if ready:
            with self._changing:
                self._remove_unused(ready)

    @property
    def may_prune(self) -> bool:
        """Whether anything may be removed that no model names."""
        return self._may_prune

    def named_digests(self) -> set[str]:
        """Every digest that a manifest names, also a broken one; without those that a further store has for its own. Blocks."""
        own: set[str] = set()
        others: set[str] = set()
        for path in self.index.all():
            (own if self.index.is_own(path) else others).update(_digests(self.index.read(path) or b""))
        return own | {digest for digest in others if not self.blobs.is_further(digest)}

    def keep(self, digest: str) -> None:
        """A blob that somebody was told is here: it is not pruned for a while."""
        with self._holding:
            self._kept[digest] = time.monotonic()

    def is_held(self, digest: str, age: float = 0.0) -> bool:
        """Whether something in progress needs a blob, or somebody was told of it less than `age` seconds ago."""
        with self._holding:
            return self._held[digest] > 0 or time.monotonic() - self._kept.get(digest, -math.inf) < age

    def remove_unnamed(self, digest: str) -> bool:
        """Remove a blob, unless a manifest has come to name it; whether it is gone. Blocks; raises StoreError."""
        with self._changing:
            self._remove_unused({digest})
        return not self.blobs.is_own(digest)

    def freed(self, name: Name) -> int:
        """Bytes that a deletion would free; raises ModelNotFound, StoreError. Blocks."""
        paths = self.require_removable(name)
        others = (self.index.read(each) or b"" for each in self.index.all() if each not in paths)
        used: set[str] = set().union(*map(_digests, others))
        gone = set().union(*(_digests(self._data(path, name)) for path in paths)) - used
        return sum(self.blobs.size(digest) for digest in gone if self.blobs.is_own(digest))

    def sweep(self) -> int:
        """Remove what killed writers left more than an hour ago; returns how many files."""
        return sum(blob.sweep(directory) for directory in (self.blobs.root, self.index.first, self.root / "downloads"))

    def _require_blobs(self, manifest: Manifest) -> None:
        for layer in (manifest.config, *manifest.layers):
            if not self.blobs.has(layer.digest) or self.blobs.size(layer.digest) != layer.size:
                raise ModelFileError(f"the blob {layer.digest} is missing or has another size than the manifest says")

    def _name(self, text: str) -> Name:
        """A name as it was asked for, read once; raises InvalidModelName, ModelNotFound for ""."""
        if (name := self._names.get(text)) is None:
            if not text:
                raise ModelNotFound(text)
            _remember(self._names, text, name := Name.parse(text))
        return name

    def _data(self, path: Path, name: Name) -> bytes:
        data = self.index.read(path)
        if data is None:
            raise ModelNotFound(name.display_shortest)
        return data

    def _model(self, path: str) -> Model | None:
        """The model of a manifest, from memory when the manifest is unchanged; None when it is not there."""
        try:
            status = os.stat(path)  # noqa: PTH116 - a thousand of them in 50 ms
        except _ABSENT:
            return None
        except OSError:
            with disk_errors():
                raise
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = self._models.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        data = self.index.read(path)
        if data is None:
            return None
        name = self.index.name(path)
        model = self._assembler.assemble(name, hashlib.sha256(data).hexdigest(), status.st_mtime, data)
        _remember(self._models, path, (stamp, model))
        return model

    def _remove_unused(self, candidates: set[str]) -> None:
        """Remove those blobs that no manifest names, also no broken one."""
        if not self._may_prune or not candidates:
            return
        used = self.named_digests()
        with self._holding:
            for digest in candidates - used:
                if self._held[digest]:
                    self._released_later.add(digest)
                else:
                    self.blobs.remove(digest)

    def _remove_pipeline(self, gone: bytes) -> None:
        """Remove the folder of the pipeline that a manifest stood for, if no other one does."""
        files = _pipeline_of(gone)
        manifests = (self.index.read(path) or b"" for path in self.index.all()) if files else ()
        if files and folder_name(files) not in map(folder_name, map(_pipeline_of, manifests)):
            pipeline.clear(files, self._pipelines / folder_name(files))


def _modified(model: Model) -> float:
    return model.modified_at.timestamp()


def _pipeline_of(data: bytes) -> Sequence[Layer]:
    """The files of a manifest that are laid out in a folder; none when it has none, or is broken."""
    try:
        manifest = decode_manifest(data)
        return pipeline.layers_of(manifest) or parts_of(manifest) or manifest.all(FOLDER_FILE)
    except ModelFileError:
        return ()


def _digests(data: bytes) -> set[str]:
    """Every digest that a manifest mentions, even one that does not parse."""
    return {digest.decode() for digest in _DIGEST.findall(data)}


def _remember(cache: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keep a value; a full cache starts anew."""
    if key not in cache and len(cache) >= _CACHED:
        cache.clear()
    cache[key] = value
