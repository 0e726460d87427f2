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
from serow.engines.vllm.arguments import VllmSpec, arguments, environment
from serow.system.limits import adopt_orphans, die_with_parent

_POLITE = 4.0  # seconds that it may take to put its shared memory away; who closes us waits for five
_POLL = 0.05
_LAST_WORDS = 0.5


class Launcher:
    """The program, and what has to happen to it when our own parent goes."""

    def __init__(self) -> None:
        self._orphaned = threading.Event()
        self._server: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """End it and what it started, and this process with them."""
        self._orphaned.set()
        deadline = time.monotonic() + _POLITE
        if self._server is not None:
            self._server.terminate()
            while time.monotonic() < deadline:  # `run` ends this process as soon as all others have ended
                time.sleep(_POLL)
        end_family()

    def run(self) -> int:
        """Start it, pass on what it writes, return its status."""
        listen, spec = adopt(VllmSpec, self.stop, dies_at_once=False)
        adopt_orphans()
        self._server = subprocess.Popen(
            list(arguments(spec, listen)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(spec, listen),
            preexec_fn=die_with_parent if os.name == "posix" else None,
        )
        if self._orphaned.is_set():
            self.stop()
        assert self._server.stdout is not None
        reader = threading.Thread(target=self._pass_on, daemon=True)
        reader.start()
        status = self._server.wait()
        wait_for_others(time.monotonic() + _POLITE)
        if self._orphaned.is_set():
            end_family()
        reader.join(_LAST_WORDS)  # what it has started may hold the pipe for longer: who closes us ends that
        return status

    def _pass_on(self) -> None:
        assert self._server is not None
        assert self._server.stdout is not None
        for line in self._server.stdout:
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()


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
    status = 1
    with contextlib.suppress(OSError):
        status = Launcher().run()
    sys.exit(status if status >= 0 else 128 - status)
