"""What the machine has to run models on.

The engine that ships with us runs on the CPU, and one built for a GPU places its own layers: there is only main memory to
plan with.
"""

from pathlib import Path

from serow.system.limits import private_memory
from serow.system.memory import free_memory


class Devices:
    """Memory in bytes, measured at each call. `root` is where the system's files lie."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def free_memory(self) -> int:
        """What a new process can get without swapping, within the limits of its container. Cached files count as free."""
        return free_memory(self._root)

    def private_memory(self, pid: int) -> int:
        """What a process and its children hold and `free_memory` does not count as free; 0 when it is gone."""
        return private_memory(pid)
