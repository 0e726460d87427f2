"""What the processor says of itself, on Linux; nothing elsewhere."""

import hashlib
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_FLAGS = ("flags", "Features")  # as x86 and Arm name what they can


def cpu_line(name: str) -> str:
    """The first line of that name in /proc/cpuinfo, "" where there is none."""
    return _read(_CPUINFO).get(name, "")


@cache
def _read(path: Path) -> dict[str, str]:
    """The first processor's lines. It is a long file on a large machine, and stays the same."""
    try:
        first = path.read_text(errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}


def cpu_flags() -> frozenset[str]:
    """The instructions that it announces, by the kernel's names: "avx2", "asimddp"."""
    return frozenset(flag for name in _FLAGS for flag in cpu_line(name).split())


def cpu_digest() -> str:
    """Tells it from every other that announces something else."""
    told = (cpu_line("model name"), *sorted(cpu_flags()))
    return hashlib.sha256(" ".join(told).encode()).hexdigest()[:12]
