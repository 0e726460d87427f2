"""The layers of a model in the making: files that are in the store, and texts that will be."""

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serow.errors import ModelFileError
from serow.store.blobs import Blobs, hex_of
from serow.store.manifest import Layer


@dataclass(frozen=True)
class Entry:
    """A layer of a draft. `data`: its bytes, when they are not in the store; `extra`: what we don't know of it."""

    layer: Layer
    data: bytes | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class Entries:
    """Layers in their order, by media type. Nothing is written here."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self.each: list[Entry] = []

    @property
    def layers(self) -> list[Layer]:
        """All layers, in order."""
        return [entry.layer for entry in self.each]

    def all(self, *media_types: str) -> list[Layer]:
        """The layers of these media types."""
        return [layer for layer in self.layers if layer.media_type in media_types]

    def present(self, digest: str, path: str = "") -> str:
        """A digest in its canonical form; raises ModelFileError when its blob is not there."""
        canonical = f"sha256:{hex_of(digest)}"
        if not self._blobs.has(canonical):
            raise ModelFileError(f"{f'{path}: ' if path else ''}no file of the digest {canonical} is here")
        return canonical

    def all_present(self, files: Mapping[str, str]) -> dict[str, str]:
        """Files with their digests in canonical form; raises ModelFileError for one that is not there."""
        return {path: self.present(digest, path) for path, digest in files.items()}

    def file(self, media_type: str, digest: str, name: str = "") -> Layer:
        """The layer of a file that is in the store."""
        return Layer(media_type=media_type, digest=digest, size=self._blobs.size(digest), name=name)

    def add(self, layer: Layer, data: bytes | None = None, extra: Mapping[str, Any] | None = None) -> None:
        """Put a layer behind the others."""
        self.each.append(Entry(layer, data, extra or {}))

    def insert(self, layer: Layer) -> None:
        """Put a layer before the others."""
        self.each.insert(0, Entry(layer))

    def drop(self, *media_types: str) -> None:
        """Leave out the layers of these media types."""
        self.each = [entry for entry in self.each if entry.layer.media_type not in media_types]

    def leave_out(self, layers: Container[Layer]) -> None:
        """Leave out these layers."""
        self.each = [entry for entry in self.each if entry.layer not in layers]

    def exchange(self, old: Sequence[Layer], new: Layer) -> None:
        """Put one layer in the place of the first of others, which all go."""
        self.each = [Entry(new) if entry.layer is old[0] else entry for entry in self.each if entry.layer not in old[1:]]

    def put_new(self, data: bytes, media_type: str) -> None:
        """Add a text unless there is an equal one."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if not any(layer.digest == digest for layer in self.all(media_type)):
            self.add(Layer(media_type=media_type, digest=digest, size=len(data)), data)

    def replace(self, data: bytes, media_type: str, *older: str) -> None:
        """Put a text in the place of those of its media type."""
        self.drop(media_type, *older)
        self.put_new(data, media_type)
