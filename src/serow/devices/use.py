"""What a model holds of a device: planned before a load, measured after it."""

from msgspec import Struct


class Use(Struct, frozen=True, kw_only=True):
    """Whole layers of a model on a device, in bytes. `handle` is the engine's name for it; `compute` is what it works in."""

    id: str
    handle: str
    name: str = ""
    total: int = 0  # bytes that the device has, for engines that take a share of it
    layers: int = 0
    weights: int = 0
    cache: int = 0
    compute: int = 0

    @property
    def size(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.compute
