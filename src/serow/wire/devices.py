"""What /api/devices tells."""

from msgspec import Struct


class DeviceModel(Struct, frozen=True, kw_only=True):
    """A model that holds memory of a device. `size` in bytes; `layers` 0 of one that draws."""

    name: str
    size: int
    layers: int


class DeviceRow(Struct, frozen=True, kw_only=True):
    """A device of this machine. Sizes in bytes; `engines` tells what each engine calls it, `reason` why none uses it."""

    name: str
    kind: str
    uuid: str
    driver: str
    total: int
    free: int
    engines: dict[str, str]
    models: list[DeviceModel]
    reason: str


class Devices(Struct, frozen=True):
    """The body of /api/devices. `warnings`: what could not be looked at."""

    devices: list[DeviceRow]
    warnings: list[str] = []
