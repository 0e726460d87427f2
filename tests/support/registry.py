"""Docker's own registry, and the shim before it that plays what a good registry never does (tests/registry).

The program comes from Debian's package by `scripts/registry`; where it can't be had the tests that need it are skipped.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "registry"
ROOT = Path(__file__).parents[2]
_DEADLINE = 30  # seconds


def program() -> str:
    """The path of docker-registry; skips where there is none."""
    places = [os.environ.get("SEROW_TEST_REGISTRY", ""), str(ROOT / ".registry/usr/bin/docker-registry")]
    found = next((place for place in places if place and Path(place).exists()), None) or shutil.which("docker-registry")
    if found is None:
        pytest.skip("docker-registry is not here: scripts/registry")
    return found


def is_free(port: int) -> bool:
    """Whether nobody listens at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(argv: list[str], port: int, **environ: str) -> Iterator[None]:
    """A process that listens at a port."""
    with subprocess.Popen(argv, cwd=HERE, env={**os.environ, **environ}, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + _DEADLINE
            while is_free(port):
                assert process.poll() is None and time.monotonic() < deadline, argv
            yield
        finally:
            process.kill()


@contextmanager
def docker_registry(storage: Path, port: int, *, auth: bool = False) -> Iterator[str]:
    """A registry with empty storage: yields its host; with `auth` it wants zoo and pass."""
    storage.mkdir(parents=True, exist_ok=True)
    environ = {"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(storage), "REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}"}
    with running([program(), "serve", "auth.yml" if auth else "open.yml"], port, **environ):
        yield f"127.0.0.1:{port}"


@contextmanager
def shim(port: int, upstream: str) -> Iterator[str]:
    """The shim: yields its host."""
    with running([sys.executable, "shim.py", str(port), f"http://{upstream}"], port):
        yield f"127.0.0.1:{port}"


@contextmanager
def registries(storage: Path, *ports: int) -> Iterator[dict[str, str]]:
    """An open registry, one with accounts, and the shim before the open one, by the names that recordings give them."""
    if not all(map(is_free, ports)):
        pytest.skip(f"somebody listens at {ports}")
    with ExitStack() as stack:
        open_one = stack.enter_context(docker_registry(storage / "open", ports[0]))
        closed_one = stack.enter_context(docker_registry(storage / "auth", ports[1], auth=True))
        before = stack.enter_context(shim(ports[2], open_one))
        yield {"registry": f"http://{open_one}", "auth": f"http://{closed_one}", "shim": f"http://{before}"}
