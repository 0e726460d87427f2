"""What the machine has to run models on.

The engine that ships with us runs on the CPU, and one built for a GPU places its own layers: there is only main memory to
plan with.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import psutil

from serow.system.limits import private_memory


class Devices:
    """Memory in bytes, measured at each call. `root` is where the system's files lie."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def free_memory(self) -> int:
        """What a new process can get without swapping, within the limits of its container. Cached files count as free."""
        left = [psutil.virtual_memory().available, *map(_left_in, self._cgroups())]
        return max(0, int(min(left)))

    def private_memory(self, pid: int) -> int:
        """What a process and its children hold and `free_memory` does not count as free; 0 when it is gone."""
        return private_memory(pid)

    def _cgroups(self) -> Iterator[Path]:
        """The cgroup (version 2) of this process and those above it."""
        try:
            lines = (self._root / "proc/self/cgroup").read_text().splitlines()
        except OSError:
            return
        top = self._root / "sys/fs/cgroup"
        for group in (top / line.removeprefix("0::/") for line in lines if line.startswith("0::/")):
            yield from (group, *(parent for parent in group.parents if parent.is_relative_to(top)))


def _left_in(group: Path) -> float:
    """Bytes up to the limit of a cgroup, infinite when it has none."""
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return math.inf
    cached = int(stat["inactive_file"]) + int(stat["active_file"])
    return math.inf if limit == "max" else int(limit) - used + cached
