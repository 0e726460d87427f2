"""Real vLLM on this machine: replicas and the router before them, each a process that ends with its context."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from serow.system.limits import kill_group
from tests.support.server import END_DEADLINE

MODEL = "smollm2"
START_DEADLINE = 600.0  # seconds; torch is imported, and kernels are compiled
_ENVIRON = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "OMP_NUM_THREADS": "1",  # two replicas share two cores
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


@dataclass(frozen=True)
class Engine:
    """One process that speaks vLLM's HTTP."""

    process: subprocess.Popen[bytes]
    url: str

    @property
    def host(self) -> str:
        """For a model's address."""
        return self.url.removeprefix("http://")

    async def text(self, path: str) -> str:
        """What it answers to a GET."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}{path}") as response:
            return await response.text()

    async def num_running(self) -> int:
        """Requests that it works on, as it counts them."""
        lines = (await self.text("/metrics")).splitlines()
        found = [line for line in lines if line.startswith("vllm:num_requests_running")]
        return sum(int(float(line.rpartition(" ")[2])) for line in found)


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def replica(folder: Path) -> AsyncIterator[Engine]:
    """One vLLM with SmolLM2."""
    argv = [
        *(str(folder / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder / "smollm2")),
        *("--served-model-name", MODEL, "--max-model-len", "1024", "--max-num-seqs", "16", "--enforce-eager"),
        "--enable-prompt-tokens-details",
    ]
    async with _started(argv, folder / "replica.log") as engine:
        yield engine


@asynccontextmanager
async def router(folder: Path, *engines: Engine) -> AsyncIterator[Engine]:
    """vLLM's router before these."""
    argv = [str(folder / "bin" / "vllm-router"), "--policy", "round_robin", "--worker-urls", *(each.url for each in engines)]
    argv += ["--prometheus-port", str(free_port()), "--health-check-interval-secs", "2", "--health-failure-threshold", "1"]
    async with _started(argv, folder / "router.log") as engine:
        yield engine


@asynccontextmanager
async def _started(argv: list[str], log: Path) -> AsyncIterator[Engine]:
    port = free_port()
    engine = Engine(_spawn([*argv, "--host", "127.0.0.1", "--port", str(port)], log), f"http://127.0.0.1:{port}")
    try:
        await _healthy(engine, log)
        yield engine
    finally:
        kill(engine)


def _spawn(argv: list[str], log: Path) -> subprocess.Popen[bytes]:
    environ = {**os.environ, **_ENVIRON}
    with log.open("ab") as output:
        return subprocess.Popen(
            argv, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def kill(engine: Engine) -> None:
    """End it and all that it started, at once."""
    kill_group(engine.process.pid)
    engine.process.wait(END_DEADLINE)


async def _healthy(engine: Engine, log: Path) -> None:
    async with asyncio.timeout(START_DEADLINE):
        while True:
            assert engine.process.poll() is None, f"{log} tells why"
            try:
                await engine.text("/health")
            except aiohttp.ClientError:
                await asyncio.sleep(0.5)
            else:
                return
