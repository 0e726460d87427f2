"""What a child does that runs a program instead of serving by itself: it passes on what that writes, and ends with it."""

import os
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

from serow.system.limits import die_with_parent


class Launcher(ABC):
    """The program, and what has to happen to it when our own parent goes."""

    def __init__(self) -> None:
        self._orphaned = threading.Event()
        self._program: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def run(self) -> int:
        """Start the program and return its status when it has ended."""

    @abstractmethod
    def stop(self) -> None:
        """End the program, if it runs: our parent has gone, `_orphaned` is set."""

    def orphan(self) -> None:
        """End the program, now or as soon as it is started."""
        self._orphaned.set()
        self.stop()

    def main(self) -> None:
        """Run the program and end as it has ended."""
        status = self.run()
        sys.exit(status if status >= 0 else 128 - status)

    def _start(
        self, command: Sequence[str], environ: Mapping[str, str], *, stdin: int, stdout: int, stderr: int
    ) -> subprocess.Popen[bytes]:
        preexec = die_with_parent if os.name == "posix" else None
        self._program = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=environ, preexec_fn=preexec)
        if self._orphaned.is_set():
            self.stop()
        return self._program


def pass_on(lines: Iterable[bytes]) -> None:
    """Write to our stderr what a program writes, line by line."""
    for line in lines:
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
