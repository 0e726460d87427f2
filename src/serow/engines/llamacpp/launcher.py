"""The child that runs a `llama-server` executable and ends with it, see `process`."""

import contextlib
import os
import subprocess

from serow.engines.child import adopt
from serow.engines.kinds import KINDS
from serow.engines.launcher import Launcher, pass_on
from serow.engines.llamacpp.spec import ENVIRON, LlamaSpec
from serow.system.limits import limit_data


class LlamaLauncher(Launcher):
    """A `llama-server` that serves one model."""

    def stop(self) -> None:
        """Kill it; it keeps nothing that would have to be saved."""
        if self._program is not None:
            self._program.kill()

    def run(self) -> int:
        """Start it, pass on what it writes to stderr, return its status."""
        listen, spec = adopt(LlamaSpec, self.orphan)
        flags = KINDS[spec.kind].flags
        assert flags is not None
        has_gpu = _has_gpu(spec)
        if not has_gpu:  # a driver claims address space as it likes
            limit_data(spec.memory_limit * 5 // 4)
        server = self._start(
            [spec.executable, *flags(spec, listen, has_gpu)],
            ENVIRON | os.environ | _projector(spec) | {"LLAMA_API_KEY": listen.key},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert server.stdin is not None
        assert server.stderr is not None
        with contextlib.suppress(BrokenPipeError), server.stdin as stdin:
            stdin.write(listen.key.encode() + b"\n")
        pass_on(server.stderr)
        return server.wait()


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
    LlamaLauncher().main()
