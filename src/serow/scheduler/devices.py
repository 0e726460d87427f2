"""What the machine has to run models on. The engines that ship with us run on the CPU: there is no GPU memory to plan with."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Devices:
    """Memory and processors, measured at each call. Sizes in bytes."""

    cgroups: Path = _CGROUPS
    own_cgroup: Path = _OWN_CGROUP

    def free_memory(self) -> int:
        """What a new process can get without swapping, the limits of containers included. Cached files count as free."""
        free = int(psutil.virtual_memory().available)
        return max(0, min([free, *map(_left_in, self._limited_cgroups())]))

    def _limited_cgroups(self) -> list[Path]:
        """Every cgroup (version 2) above this process that has a memory limit."""
        try:
            own = next(line[3:].strip() for line in self.own_cgroup.read_text().splitlines() if line.startswith("0::"))
        except (OSError, StopIteration):
            return []
        group = self.cgroups / own.lstrip("/")
        groups = [group, *group.parents]
        return [path for path in groups if path.is_relative_to(self.cgroups) and _limit(path) is not None]

    def private_memory(self, pid: int) -> int:
        """What a process holds and `free_memory` does not count as free; 0 when it is gone.

        On Linux mapped files are left out: the weights of a model lie in the page cache, which counts as free.
        """
        try:
            memory = psutil.Process(pid).memory_info()
        except psutil.Error:
            return 0
        return int(memory.rss - (memory.shared if sys.platform == "linux" else 0))


def physical_cores() -> int:
    """Cores this process may use, hyper-threads not counted."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(psutil.cpu_count(logical=False) or usable, usable)


def _limit(group: Path) -> int | None:
    try:
        text = (group / "memory.max").read_text().strip()
    except OSError:
        return None
    return None if text == "max" else int(text)


def _left_in(group: Path) -> int:
    used = int((group / "memory.current").read_text())
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    cached = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
    return (_limit(group) or 0) - used + cached
