"""Two processes on loopback that llama.cpp takes for two devices, with as much memory as a test wants them to have."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from serow.devices.inventory import Asked, Inventory

VARIABLE = "SEROW_TEST_RPC"  # a directory with llama-server, built with RPC, and ggml-rpc-server
_DEADLINE = 20.0  # seconds


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def servers(directory: Path, count: int = 2) -> Iterator[str]:
    """So many devices: the addresses as `--rpc` and LLAMA_ARG_RPC take them."""
    ports = [_free_port() for _ in range(count)]
    command = [str(directory / "ggml-rpc-server"), "--host", "127.0.0.1", "--threads", "1", "--port"]
    running = [subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for port in ports]
    try:
        for port in ports:
            _await(port)
        yield ",".join(f"127.0.0.1:{port}" for port in ports)
    finally:
        for process in running:
            process.kill()
            process.wait()


def _await(port: int) -> None:
    deadline = time.monotonic() + _DEADLINE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


class Sized(Inventory):
    """An inventory whose devices have so many bytes each: llama.cpp tells the memory of the whole machine for each of them."""

    def __init__(self, directory: Path, *memory: int) -> None:
        super().__init__(lambda: [Asked("llama.cpp", directory / "llama-server")], lambda: False, environ=os.environ)
        self.memory = memory
        self.held = [0, 0]

    async def refresh(self, seconds: float = 20.0, engine: str | None = None) -> bool:
        is_done = bool(self.devices) or await super().refresh(20.0)  # asked once: such a server speaks to one engine at a time
        self.devices = tuple(
            msgspec.structs.replace(device, name=f"RPC {number}", total=size, free=size - self.held[number])
            for number, (device, size) in enumerate(zip(self.devices, self.memory, strict=True))
        )
        return is_done
