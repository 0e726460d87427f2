"""The child that runs a `llama-server` executable and ends with it, see `process`."""

import contextlib
import os
import subprocess
import sys
import threading

from serow.engines.child import adopt
from serow.engines.kinds import KINDS
from serow.engines.llamacpp.spec import ENVIRON, LlamaSpec
from serow.system.limits import die_with_parent, limit_data


class Launcher:
    """The program, and what has to happen to it when our own parent goes."""

    def __init__(self) -> None:
        self._orphaned = threading.Event()
        self._server: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Kill the program; it keeps nothing that would have to be saved."""
        self._orphaned.set()
        if self._server is not None:
            self._server.kill()

    def run(self) -> int:
        """Start it, pass on what it writes to stderr, return its status."""
        listen, spec = adopt(LlamaSpec, self.stop)
        flags = KINDS[spec.kind].flags
        assert flags is not None
        has_gpu = _has_gpu(spec)
        if not has_gpu:  # a driver claims address space as it likes
            limit_data(spec.memory_limit * 5 // 4)
        self._server = subprocess.Popen(
            [spec.executable, *flags(spec, listen, has_gpu)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=ENVIRON | os.environ | _projector(spec) | {"LLAMA_API_KEY": listen.key},
            preexec_fn=die_with_parent if os.name == "posix" else None,
        )
        if self._orphaned.is_set():
            self.stop()
        assert self._server.stdin is not None
        assert self._server.stderr is not None
        with contextlib.suppress(BrokenPipeError), self._server.stdin as stdin:
            stdin.write(listen.key.encode() + b"\n")
        for line in self._server.stderr:
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
        return self._server.wait()


def _projector(spec: LlamaSpec) -> dict[str, str]:
    """Where a projector goes: the engine would take the first device that there is."""
    return {"MTMD_BACKEND_DEVICE": spec.devices[0]} if spec.projector and spec.devices else {}


def _has_gpu(spec: LlamaSpec) -> bool:
    """Whether it lists devices beside the CPU; one that can't list them may have some."""
    if spec.has_gpu is not None:
        return spec.has_gpu
    listed = subprocess.run([spec.executable, "--list-devices"], capture_output=True, text=True, timeout=60, check=False)
    return "(none)" not in listed.stdout


if __name__ == "__main__":
    status = Launcher().run()
    sys.exit(status if status >= 0 else 128 - status)
