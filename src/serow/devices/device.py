"""A device that an engine can use, and a card as the system tells of it."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

Kind = Literal["cuda", "rocm", "metal", "vulkan", "sycl", "rpc", "gpu"]
Vendor = Literal["nvidia", "amd", "intel", "apple", ""]

# How engines name their devices; what begins otherwise is some other GPU.
_KINDS: dict[str, Kind] = {
    "CUDA": "cuda", "ROCm": "rocm", "HIP": "rocm", "MTL": "metal", "Metal": "metal", "Vulkan": "vulkan", "SYCL": "sycl",
    "RPC": "rpc",
}  # fmt: skip
_VENDORS: dict[Kind, Vendor] = {"cuda": "nvidia", "rocm": "amd", "metal": "apple"}


def kind_of(name: str) -> Kind:
    """The kind of a device by the name that its engine has for it: "CUDA0"."""
    return next((kind for beginning, kind in _KINDS.items() if name.startswith(beginning)), "gpu")


def vendor_of(kind: Kind) -> Vendor:
    """Whose cards a kind of device runs on, "" where that can be anybody's."""
    return _VENDORS.get(kind, "")


class Card(Struct, frozen=True, kw_only=True):
    """A card as the driver or the system tells of it. Bytes; `total` 0: not told. `index` counts the vendor's cards."""

    vendor: Vendor
    name: str = ""
    index: int = 0
    uuid: str = ""
    pci: str = ""  # "0000:01:00.0"
    driver: str = ""  # "NVIDIA 570.86", "amdgpu"; "" where none is loaded
    total: int = 0
    free: int = 0
    used: dict[int, int] = {}  # bytes by process id, as far as the driver tells
    is_shared: bool = False  # its memory is the main memory

    @property
    def id(self) -> str:
        """The same for as long as the card stays where it is."""
        return self.uuid or self.pci or f"{self.vendor}{self.index}"


class Listed(Struct, frozen=True):
    """A device as an engine lists it. Bytes. `place` is its PCI address or UUID where the engine tells it."""

    name: str
    description: str
    total: int
    free: int
    place: str = ""


class Listing(Struct, frozen=True, kw_only=True):
    """What one engine lists. `fault` says in words why it lists nothing."""

    engine: str
    devices: tuple[Listed, ...] = ()
    fault: str = ""


class Device(Struct, frozen=True, kw_only=True):
    """A card, with the name that each engine has for it. `reason` says why nobody uses it, or not by itself. Sizes in bytes."""

    id: str  # the same for as long as the card stays where it is
    name: str
    kind: Kind
    uuid: str = ""
    pci: str = ""
    driver: str = ""
    total: int = 0
    free: int = 0
    is_shared: bool = False
    is_emulated: bool = False  # a driver that computes on the CPU
    handles: dict[str, str] = {}  # by the engine's name: "CUDA0"
    used: dict[int, int] = {}  # bytes by process id
    measured_by: str = ""  # the engine whose own list tells what is free; "" where the driver does
    reason: str = ""

    def index(self, devices: "tuple[Device, ...]", engine: str) -> int:
        """Which of the engine's devices it is, as `main_gpu` counts them."""
        return [each.id for each in usable(devices, engine)].index(self.id)


def used_by(handles: Mapping[str, str], reason: str) -> str:
    """In words: what each engine calls a device, and why nobody uses it, or not by itself."""
    named = ", ".join(f"{engine}: {name}" for engine, name in handles.items())
    return "; ".join(filter(None, (named, reason)))


def usable(devices: tuple[Device, ...], engine: str) -> tuple[Device, ...]:
    """Those that an engine can use, in the engine's own order."""
    return tuple(sorted((each for each in devices if engine in each.handles), key=lambda each: _order(each.handles[engine])))


def _order(name: str) -> tuple[str, int]:
    letters = name.rstrip("0123456789")
    return letters, int(name[len(letters) :] or 0)
