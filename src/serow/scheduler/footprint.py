"""Bytes by device: what is planned with, and what a model holds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Footprint:
    """Bytes of main memory, and of each device by its id."""

    main: int = 0
    devices: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Footprint") -> "Footprint":
        return Footprint(self.main + other.main, _sum(self.devices, other.devices))

    def with_devices(self, devices: Mapping[str, int]) -> "Footprint":
        """The same main memory, and these."""
        return Footprint(self.main, devices)

    def on(self, device: str) -> int:
        """Bytes of one device."""
        return self.devices.get(device, 0)


def by_device(footprints: Iterable[Footprint]) -> dict[str, int]:
    """Bytes of each device that they come to together."""
    found: dict[str, int] = {}
    for each in footprints:
        for name, size in each.devices.items():
            found[name] = found.get(name, 0) + size
    return found


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    if not other:
        return one
    return {name: one.get(name, 0) + other.get(name, 0) for name in one.keys() | other.keys()}
