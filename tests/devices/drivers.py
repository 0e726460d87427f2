"""Drivers that answer, hang, lie, die or vanish: programs that stand where our own child stands."""

import sys
from pathlib import Path

import msgspec

from serow.devices.device import Card

GIB = 1 << 30


def nvidia(index: int = 0, *, free: int = 70 * GIB, total: int = 80 * GIB) -> Card:
    """A card as NVML tells of it."""
    return Card(
        vendor="nvidia",
        name="NVIDIA H100",
        index=index,
        uuid=f"GPU-{index}f8d",
        pci=f"0000:0{index + 1}:00.0",
        driver="NVIDIA 570.86",
        total=total,
        free=free,
    )


def told(path: Path, *cards: Card) -> None:
    """What the driver of `driver` says from now on."""
    path.write_bytes(msgspec.json.encode(cards))


def driver(path: Path) -> tuple[str, ...]:
    """A child that answers each line with what is in the file: `hang` hangs, `die` ends it."""
    program = (
        "import sys, time\n"
        "for _ in sys.stdin:\n"
        "    said = open(sys.argv[1]).read()\n"
        "    if said == 'hang': time.sleep(3600)\n"
        "    if said == 'die': sys.exit(1)\n"
        "    print(said, flush=True)\n"
    )
    return sys.executable, "-c", program, str(path)


def engine(path: Path, text: str) -> Path:
    """An executable that lists devices; `hang` hangs."""
    path.write_text("#!/bin/sh\nexec sleep 3600\n" if text == "hang" else f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    path.chmod(0o700)
    return path
