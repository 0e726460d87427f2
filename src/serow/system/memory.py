"""How much main memory there is left, within the limits of the container: cgroups of version 1 and 2."""

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_ROOT = Path("/")
_FILES = {  # limit, what is used, and the cached files among it, by version
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
    2: ("memory.max", "memory.current", ("inactive_file", "active_file")),
}
_NO_LIMIT = 1 << 60  # version 1 has a number for that, too


def free_memory(root: Path = _ROOT) -> int:
    """Bytes that a new process can get without swapping. Cached files count as free; `root` is where the system's files lie."""
    left = [psutil.virtual_memory().available, *(_left_in(group, version) for group, version in _cgroups(root))]
    return max(0, int(min(left)))


def _cgroups(root: Path) -> Iterator[tuple[Path, int]]:
    """The cgroup of this process that counts memory, and those above it, each with its version."""
    lines: list[str] = []
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from ((group, 2) for group in _upwards(root / "sys/fs/cgroup", path))
        elif "memory" in controllers.split(","):
            yield from ((group, 1) for group in _upwards(root / "sys/fs/cgroup/memory", path))


def _upwards(top: Path, path: str) -> Iterator[Path]:
    """A group and all above it; a container may see only the top."""
    group = top / path.lstrip("/")
    yield from (group, *(parent for parent in group.parents if parent.is_relative_to(top)))


def _left_in(group: Path, version: int) -> float:
    """Bytes up to the limit of a cgroup, infinite when it has none."""
    limit_file, used_file, cached_names = _FILES[version]
    try:
        limit = (group / limit_file).read_text().strip()
        if limit == "max" or int(limit) >= _NO_LIMIT:  # what is used takes the kernel longer to tell
            return math.inf
        used = int((group / used_file).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return math.inf
    cached = sum(int(stat.get(name, 0)) for name in cached_names)
    return int(limit) - used + cached
