"""The model store: Ollama's directory of blobs and manifests, read and written side by side with Ollama.

    <root>/blobs/sha256-<hex>                        weights, templates, parameters, each under its digest
    <root>/manifests/<host>/<namespace>/<model>/<tag>    which blobs a name stands for
    <root>/pipelines/<hex>/                          text-to-image models, laid out as hard links to their blobs

Blobs appear whole and verified, manifests in one step. A blob goes when no manifest names it any more.
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
from contextlib import suppress
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
from serow.store.links import is_changed
from serow.store.manifest import MANIFEST_LIMIT, PIPELINE_FILE, Layer, Manifest, decode_manifest
from serow.store.model import Model
from serow.store.name import Name
from serow.store.pipeline import folder_name
from serow.store.split import parts_of

logger = logging.getLogger(__name__)

_SHALLOWEST, _DEEPEST = 4, 12  # levels of folders below `manifests/`: host, up to nine namespaces, model, tag
_CACHED = 16_384  # names as asked for, and models
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)

_Stamp = tuple[int, int, int]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Store:
    """The one way to the models on disk. Methods block; those that may take more than a few milliseconds say so."""

    def __init__(self, root: Path, heads: Heads | None = None, *, may_prune: bool = True) -> None:
        self.root = root
        self._heads = heads or Heads()
        self._may_prune = may_prune
        self.blobs = Blobs(root / "blobs")
        self._manifests = root / "manifests"
        self._pipelines = root / "pipelines"
        self._assembler = Assembler(self.blobs, self._pipelines, self._heads)
        self._changing = Lock()  # between writing a manifest and removing blobs
        self._holding = Lock()  # around the next two
        self._held: Counter[str] = Counter()  # digests that something in progress is going to name
        self._kept: dict[str, float] = {}  # when somebody was told that a blob is here, by time.monotonic()
        self._released_later: set[str] = set()  # those of them that nothing else names any more
        self._paths: dict[str, Path] = {}
        self._models: dict[str, tuple[_Stamp, Model]] = {}
        self._broken: set[str] = set()  # manifests that were named in the log

    def resolve(self, text: str) -> Model:
        """The model that a name stands for. Microseconds when its manifest is unchanged, else 10 to 100 ms.

        Raises InvalidModelName, ModelNotFound (also for ""), ModelFileError for a model that is broken.
        """
        path = self._paths.get(text) or self._locate_text(text)
        model = self._model(str(path))
        if model is None:
            self._paths.pop(text, None)
            raise ModelNotFound(text)
        _remember(self._paths, text, path)
        if any(is_changed(self.root, digest) for digest in model.linked):
            raise ModelFileError(f"a file that {model.name.display_shortest} is linked to was changed: make the model again")
        return model

    async def find(self, text: str) -> Model:
        """`resolve` for the event loop: what is not in memory is read in a thread."""
        path = self._paths.get(text)
        return self.resolve(text) if str(path) in self._models else await asyncio.to_thread(self.resolve, text)

    def list(self) -> list[Model]:
        """Every model that can be read, the newest first. Up to 100 ms for each that was not read before."""
        models: dict[Name, Model] = {}
        for path in _files(str(self._manifests)):
            try:
                model = self._model(path)
            except (RequestError, StoreError) as error:
                self._name_broken(path, error)
                continue  # the others still list
            if model is not None:  # of two names that differ in case only the newer model counts
                other = models.get(model.name)
                models[model.name] = model if other is None else max((model, other), key=_modified)
        return sorted(models.values(), key=lambda model: (-_modified(model), str(model.name)))

    def _name_broken(self, path: str, error: SerowError) -> None:
        """Say once which manifest can't be read."""
        if path not in self._broken:
            self._broken.add(path)
            logger.warning("the manifest %s can't be used: %s", os.path.relpath(path, self._manifests), error)

    def has(self, name: Name) -> bool:
        """Whether there is a manifest of that name."""
        return self._locate(name).is_file()

    def manifest(self, name: Name) -> Manifest:
        """The manifest of a name; raises ModelNotFound, ModelFileError, StoreError."""
        return decode_manifest(self.manifest_data(name))

    def manifest_data(self, name: Name) -> bytes:
        """The bytes of a manifest, as they are; raises ModelNotFound, StoreError."""
        return self._data(self._locate(name), name)

    def copy(self, source: Name, destination: Name) -> None:
        """Give a model a second name; raises ModelNotFound, ModelFileError, StoreError."""
        data = self._data(self._locate(source), source)
        if source != destination:
            self.put_manifest(destination, data)

    def delete(self, name: Name) -> None:
        """Remove a name, and the blobs that no other name needs; raises ModelNotFound, StoreError."""
        path = self._locate(name)
        with self._changing:
            removed = self._data(path, name)
            with disk_errors():
                path.unlink(missing_ok=True)
                self._remove_empty(path.parent)
            self._models.pop(str(path), None)
            self._remove_unused(_digests(removed))
            self._remove_pipeline(removed)

    def hold_recipe(self, recipe: Recipe) -> Sequence[str]:
        """Hold everything that a recipe names, and return it, to be released. Raises ModelNotFound, StoreError."""
        named = (*(recipe.files or {}).values(), *recipe.adapters.values(), *recipe.draft_files.values())
        digests = [f"sha256:{blob.hex_of(digest)}" for digest in named]
        with self._changing:  # so that no deletion comes between the reading and the holding
            if recipe.source is not None:
                digests += _digests(self.manifest_data(recipe.source))
            self.hold(digests)
        return digests

    def draft(self, recipe: Recipe) -> Draft:
        """Read and check everything that a recipe names, and write nothing. Blocks: up to 100 ms for each file.

        Raises RequestError and ModelFileError for a recipe that can't be followed, ModelNotFound for its source, StoreError.
        """
        base = None if recipe.source is None else self.manifest_data(recipe.source)
        return Draft.of(recipe, self.blobs, self._heads, base)

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
        manifest, path = decode_manifest(data), self._locate(name)
        with self._changing:
            self._require_blobs(manifest)
            before = self._read(path) or b""
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

    @property
    def manifests(self) -> Path:
        """The folder of the manifests."""
        return self._manifests

    def manifest_paths(self) -> Iterator[Path]:
        """Every manifest, readable or not."""
        return self._manifest_paths()

    def named_digests(self) -> set[str]:
        """Every digest that a manifest names, also a broken one. Blocks."""
        return set().union(*(_digests(self._read(path) or b"") for path in self._manifest_paths()))

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
        return not self.blobs.has(digest)

    def freed(self, name: Name) -> int:
        """Bytes that a deletion would free; raises ModelNotFound, StoreError. Blocks."""
        path = self._locate(name)
        others = (self._read(each) or b"" for each in self._manifest_paths() if each != path)
        used: set[str] = set().union(*map(_digests, others))
        gone = _digests(self._data(path, name)) - used
        return sum(self.blobs.size(digest) for digest in gone if self.blobs.has(digest))

    def sweep(self) -> int:
        """Remove what killed writers left more than an hour ago; returns how many files."""
        return sum(blob.sweep(directory) for directory in (self.blobs.root, self._manifests, self.root / "downloads"))

    def _require_blobs(self, manifest: Manifest) -> None:
        for layer in (manifest.config, *manifest.layers):
            if not self.blobs.has(layer.digest) or self.blobs.size(layer.digest) != layer.size:
                raise ModelFileError(f"the blob {layer.digest} is missing or has another size than the manifest says")

    def _locate_text(self, text: str) -> Path:
        if not text:
            raise ModelNotFound(text)
        return self._locate(Name.parse(text))

    def _locate(self, name: Name) -> Path:
        """The path of a manifest, of one that differs only in case if there is one."""
        path = self._manifests
        with disk_errors():
            for part in name.path.parts:
                path = path / (part if (path / part).exists() else _spelled(path, part))
        return path

    def _manifest_paths(self) -> Iterator[Path]:
        """Every manifest: host, one or more namespaces, model, tag; files that begin with a dot are being written."""
        return map(Path, _files(str(self._manifests)))

    def _read(self, path: Path) -> bytes | None:
        """The bytes of a manifest, at most one above the limit; None when it is not there."""
        with disk_errors(), suppress(*_ABSENT), path.open("rb") as file:
            return file.read(MANIFEST_LIMIT + 1)
        return None

    def _data(self, path: Path, name: Name) -> bytes:
        data = self._read(path)
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
        data = self._read(Path(path))
        if data is None:
            return None
        name = Name.of_path(Path(path).relative_to(self._manifests))
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
        manifests = (self._read(path) or b"" for path in self._manifest_paths()) if files else ()
        if files and folder_name(files) not in map(folder_name, map(_pipeline_of, manifests)):
            pipeline.clear(files, self._pipelines / folder_name(files))

    def _remove_empty(self, directory: Path) -> None:
        while directory != self._manifests and not any(directory.iterdir()):
            directory.rmdir()
            directory = directory.parent


def _files(folder: str, level: int = 1) -> Iterator[str]:
    """The files from the fourth level of folders on; links are followed, what can't be read is left out."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(entry.path, level + 1) if level < _DEEPEST else ()
            elif level >= _SHALLOWEST and entry.is_file():
                yield entry.path


def _modified(model: Model) -> float:
    return model.modified_at.timestamp()


def _pipeline_of(data: bytes) -> Sequence[Layer]:
    """The files of a manifest that are laid out in a folder; none when it has none, or is broken."""
    try:
        manifest = decode_manifest(data)
    except ModelFileError:
        return ()
    return manifest.all(PIPELINE_FILE) or parts_of(manifest)


def _digests(data: bytes) -> set[str]:
    """Every digest that a manifest mentions, even one that does not parse."""
    return {digest.decode() for digest in _DIGEST.findall(data)}


def _spelled(directory: Path, part: str) -> str:
    """How a directory spells a name that it has in another case; the name itself when it has none."""
    with suppress(*_ABSENT):  # of a last model that is just deleted, too
        for entry in directory.iterdir():
            if entry.name.lower() == part.lower():
                return entry.name
    return part


def _remember(cache: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keep a value; a full cache starts anew."""
    if key not in cache and len(cache) >= _CACHED:
        cache.clear()
    cache[key] = value
