"""The cards that drivers and the system tell of. Drivers are asked in a child only: one may hang, or end who asks it."""

import contextlib
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serow.devices.device import Card, Vendor

_VENDORS: dict[str, Vendor] = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
_DISPLAY = "0x03"  # how the class of a graphics card begins on the PCI bus
_LONGEST = 4096  # bytes of one of the system's files
_LEAST_PART = 16  # an integrated GPU keeps less than one part in so many of the memory for itself


def find_cards(root: Path = Path("/"), *, asks_drivers: bool = True) -> list[Card]:
    """Every card, once: what its driver tells, else what stands on the bus. `root` is where the system's files lie."""
    if sys.platform == "darwin":
        return [_apple()] if platform.machine() == "arm64" else []
    told = {card.pci: card for card in (*_nvidia(), *_amd(root))} if asks_drivers else {}
    rest = [card for card in _on_the_bus(root) if card.pci not in told]
    return [*told.values(), *rest]


def _apple() -> Card:
    """Its memory is the main memory; how much of it Metal lets an engine have, only the engine tells."""
    name = subprocess.run(["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False)
    return Card(vendor="apple", name=name.stdout.strip() or "Apple GPU", driver="Metal", is_shared=True)


def _nvidia() -> Iterator[Card]:
    """By NVML, where its Python package and the driver are here."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - no package, no driver, or one that is broken: NVML has its own errors, and this is a child
        return
    driver = f"NVIDIA {_text(pynvml.nvmlSystemGetDriverVersion())}"
    for index in range(pynvml.nvmlDeviceGetCount()):
        with contextlib.suppress(pynvml.NVMLError):  # a card that has vanished
            yield _nvidia_card(pynvml, index, driver)


def _nvidia_card(pynvml: Any, index: int, driver: str) -> Card:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    used: dict[int, int] = {}
    with contextlib.suppress(pynvml.NVMLError):
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        used = {process.pid: process.usedGpuMemory for process in processes if process.usedGpuMemory}
    return Card(
        vendor="nvidia",
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        index=index,
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        pci=pci_address(_text(pynvml.nvmlDeviceGetPciInfo(handle).busId)),
        driver=driver,
        total=memory.total,
        free=memory.free,
        used=used,
    )


def _amd(root: Path) -> Iterator[Card]:
    """By what amdgpu tells in sysfs, in the order of the bus."""
    for index, place in enumerate(_places(root, "amd", "amdgpu")):
        total, used = _number(place / "mem_info_vram_total"), _number(place / "mem_info_vram_used")
        unique = _read(place / "unique_id")
        yield Card(
            vendor="amd",
            name=_read(place / "product_name") or "AMD GPU",
            index=index,
            uuid=f"GPU-{unique.removeprefix('0x')}" if unique else "",
            pci=place.name.lower(),
            driver="amdgpu",
            total=total,
            free=max(0, total - used),
            is_shared=total < _number(place / "mem_info_gtt_total") // _LEAST_PART,
        )


def _on_the_bus(root: Path) -> Iterator[Card]:
    """Cards without a word about their memory; "" as the driver of one that has none."""
    vendors: tuple[Vendor, ...] = ("nvidia", "amd", "intel")
    for vendor in vendors:
        for index, place in enumerate(_places(root, vendor)):
            name = f"{vendor.upper() if vendor != 'intel' else 'Intel'} GPU"
            yield Card(vendor=vendor, name=name, index=index, pci=place.name.lower(), driver=_driver(place))


def _places(root: Path, vendor: Vendor, driver: str = "") -> list[Path]:
    """The directories of a vendor's cards, in the order of the bus; with `driver` only of those that it runs."""
    devices = root / "sys/bus/pci/devices"
    found = [
        place
        for place in (sorted(devices.iterdir()) if devices.is_dir() else [])
        if _VENDORS.get(_read(place / "vendor")) == vendor and _read(place / "class").startswith(_DISPLAY)
    ]
    return [place for place in found if not driver or _driver(place) == driver]


def _driver(place: Path) -> str:
    try:
        return (place / "driver").resolve(strict=True).name
    except OSError:
        return ""


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST).decode(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _read(path)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def pci_address(text: str) -> str:
    """As the kernel writes it: NVML has eight digits in front where the kernel has four."""
    return re.sub(r"^[0-9a-f]{4}(?=[0-9a-f]{4}:)", "", text.lower())


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def has_traces(root: Path = Path("/")) -> bool:
    """Whether anything tells of a card: cheap, and asks no driver."""
    if sys.platform in ("darwin", "win32"):
        return True
    names = (*(root / "dev").glob("nvidia[0-9]*"), *(root / "dev/dri").glob("renderD*"))
    return bool(names) or any((root / "dev" / name).exists() for name in ("kfd", "dxg")) or any(_on_the_bus(root))
