"""What every place that models come from can do: `resolve` a name into a manifest, and `fetch` bytes of its blobs."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from serow.store.manifest import Layer, Manifest


@dataclass(frozen=True)
class Found:
    """What a place has under a name. `data`: the manifest's bytes, to be stored as they are."""

    data: bytes
    manifest: Manifest
    notes: tuple[str, ...] = ()  # what people should know, as statuses
    content: dict[str, bytes] = field(default_factory=dict)  # small blobs that came along, by digest

    @property
    def blobs(self) -> tuple[Layer, ...]:
        """What has to be fetched, each digest once: layers in order, the config last."""
        return tuple({layer.digest: layer for layer in (*self.manifest.layers, self.manifest.config)}.values())


@dataclass(frozen=True)
class Body:
    """The beginning of a blob's bytes: `first` is where they begin, `is_whole` says that the range was not minded."""

    first: int
    is_whole: bool
    chunks: AsyncIterator[bytes]


class Place(Protocol):
    """A registry, Hugging Face, a mirror of either."""

    host: str

    async def resolve(self) -> Found:
        """What is there; raises NotAtRegistry, RegistryRefused, RegistryError, Offline."""
        ...

    def fetch(self, layer: Layer, first: int, last: int) -> AbstractAsyncContextManager[Body]:
        """Bytes `first` to `last` of a blob, both included. Raises what `Interrupted` and its kin say, RegistryError."""
        ...

    def retain(self) -> None:
        """Use the place until `release`."""
        ...

    async def release(self) -> None:
        """End a use; the last one closes its connections."""
        ...


class Interrupted(Exception):
    """A try that failed and may be repeated. `reason` in words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LinkExpired(Interrupted):
    """The link to storage is not good any more: the next try asks the registry for another."""


class Busy(Interrupted):
    """The registry wants us to wait `seconds`."""

    def __init__(self, reason: str, seconds: float | None) -> None:
        super().__init__(reason)
        self.seconds = seconds
