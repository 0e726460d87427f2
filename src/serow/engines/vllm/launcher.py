"""The child that runs vLLM and ends with it, see `process`.

vLLM starts processes of its own, which outlive it when it is killed: all are in our process group, and end with that.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

from serow.engines.child import adopt
from serow.engines.launcher import Launcher, pass_on
from serow.engines.vllm.arguments import VllmSpec, arguments, environment
from serow.system.limits import adopt_orphans

_POLITE = 4.0  # seconds that it may take to put its shared memory away; who closes us waits for five
_POLL = 0.05
_LAST_WORDS = 0.5


class VllmLauncher(Launcher):
    """A vLLM that serves one model."""

    def stop(self) -> None:
        """End it and what it started, and this process with them."""
        deadline = time.monotonic() + _POLITE
        if self._program is not None:
            self._program.terminate()
            while time.monotonic() < deadline:  # `run` ends this process as soon as all others have ended
                time.sleep(_POLL)
        end_family()

    def run(self) -> int:
        """Start it, pass on what it writes, return its status."""
        listen, spec = adopt(VllmSpec, self.orphan, dies_at_once=False)
        adopt_orphans()
        vllm = self._start(
            list(arguments(spec, listen)),
            environment(spec, listen),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert vllm.stdout is not None
        reader = threading.Thread(target=pass_on, args=(vllm.stdout,), daemon=True)
        reader.start()
        status = vllm.wait()
        wait_for_others(time.monotonic() + _POLITE)
        if self._orphaned.is_set():
            end_family()
        reader.join(_LAST_WORDS)  # what it has started may hold the pipe for longer: who closes us ends that
        return status


def wait_for_others(deadline: float) -> None:
    """Let what vLLM has started end by itself: what is killed leaves its shared memory behind."""
    while sys.platform != "win32" and time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            time.sleep(_POLL)


def end_family() -> None:
    """Kill the processes of our group, this one among them; only the leader of a group has one that is ours alone."""
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        VllmLauncher().main()
    sys.exit(1)
