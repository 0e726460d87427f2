"""What lies in a store and belongs to nothing: found and named, and removed on request (LIB-36).

unreferenced   a blob that no manifest names, that nothing in progress holds, and that is not young
partial        a file that a killed writer left, ours or the peer's
double         a manifest whose name a newer one has in another case, or an earlier store: named, not removed
broken         a manifest that can't be read, or lacks a blob: named, not removed
"""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serow.errors import InvalidModelName, ModelFileError, RequestError, StoreError
from serow.store.blobs import disk_errors
from serow.store.manifest import decode_manifest
from serow.store.store import Store
from serow.system.disk import PARTIAL

_BLOB = re.compile(r"sha256[-:]([0-9a-f]{64})")
_PARTIAL = re.compile(rf"{PARTIAL.pattern}|sha256-[0-9a-f]{{64}}-partial(-\d+)?")

Kind = Literal["unreferenced", "partial", "double", "broken"]


@dataclass(frozen=True)
class Waste:
    """Something that belongs to nothing. `what`: a digest, a file's name or a model's; `size` in bytes."""

    kind: Kind
    what: str
    size: int
    is_removed: bool = False


def prune(store: Store, older: float, *, dry_run: bool) -> list[Waste]:
    """Remove what belongs to nothing and is older than `older` seconds; returns all of it. Blocks.

    Raises RequestError where nothing may be pruned, StoreError.
    """
    if not store.may_prune and not dry_run:
        raise RequestError("SEROW_NOPRUNE is set: nothing is removed", hint="look without removing: serow prune --dry-run")
    with disk_errors():
        found = [*_manifests(store), *_blobs(store, older)]
    return found if dry_run else [_remove(store, waste) for waste in found]


def _manifests(store: Store) -> Iterator[Waste]:
    """What can't be read, and what does not count; of further stores by its whole path."""
    for path in store.index.all():
        try:
            name = store.index.name(path)
        except InvalidModelName:
            continue  # somebody else's
        with suppress(FileNotFoundError):  # a model that is deleted meanwhile
            size = path.stat().st_size
            if store.index.find(name) != path:
                yield Waste("double", store.index.shown(path), size)
            if not _is_whole(store, path) and path.exists():
                yield Waste("broken", store.index.shown(path), size)


def _is_whole(store: Store, path: Path) -> bool:
    try:
        manifest = decode_manifest(path.read_bytes())
        blobs = (manifest.config, *manifest.layers)
        return all(store.blobs.has(each.digest) and store.blobs.size(each.digest) == each.size for each in blobs)
    except (ModelFileError, StoreError):
        return False


def _blobs(store: Store, older: float) -> Iterator[Waste]:
    used, now = store.named_digests(), time.time()
    if not store.blobs.root.is_dir():
        return
    for path in sorted(store.blobs.root.iterdir()):
        with suppress(FileNotFoundError):
            status = path.stat()
            if now - status.st_mtime < older or path.is_symlink() or not path.is_file():
                continue
            if match := _BLOB.fullmatch(path.name):
                if (digest := f"sha256:{match[1]}") not in used and not store.is_held(digest, older):
                    yield Waste("unreferenced", digest, status.st_size)
            elif _PARTIAL.fullmatch(path.name):
                yield Waste("partial", path.name, status.st_size)


def _remove(store: Store, waste: Waste) -> Waste:
    if waste.kind == "unreferenced" and store.remove_unnamed(waste.what):
        return Waste(waste.kind, waste.what, waste.size, is_removed=True)
    if waste.kind == "partial":
        with disk_errors():
            (store.blobs.root / waste.what).unlink(missing_ok=True)
        return Waste(waste.kind, waste.what, waste.size, is_removed=True)
    return waste
