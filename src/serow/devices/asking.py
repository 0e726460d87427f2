"""Programs that are asked what devices there are, each with a deadline: one that hangs is ended, and costs nobody else."""

import asyncio
import contextlib
import logging
import math
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from serow.devices.cards import find_cards
from serow.devices.device import Card
from serow.system.limits import clean_environment, kill_group

PROBE = "serow.devices.probe"
# What tells drivers and engines which devices to show, and where.
_DRIVERS = ("CUDA_", "GGML_", "GPU_", "HIP_", "HSA_", "LLAMA_", "MESA_", "NVIDIA_", "ONEAPI_", "ROCR_", "SYCL_", "VK_", "ZE_")
_LARGEST = 1 << 20  # bytes of an answer
_PIECE = 64 << 10
PAUSE = 60.0  # seconds until a driver or engine that did not answer is asked again
_log = logging.getLogger(__name__)
_ENDING = 5.0  # seconds that the kernel may take to end a process; one that hangs inside a driver takes for ever


def environment() -> dict[str, str]:
    """What a program that looks at devices needs, and nothing of the server's secrets. CUDA counts cards as the bus does."""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} | clean_environment(*_DRIVERS)


def probe(source: str) -> tuple[str, ...]:
    """The command line of our own child that asks one source."""
    return sys.executable, "-m", PROBE, source


async def ask(argv: Sequence[str], seconds: float, environ: Mapping[str, str] | None = None) -> str | None:
    """What a program prints; None where it can't be started, fails, says too much, or is not done in time."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=DEVNULL,
            env=environment() if environ is None else environ,
            start_new_session=True,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(seconds):
            assert process.stdout is not None
            said = b""
            while len(said) <= _LARGEST and (piece := await process.stdout.read(_PIECE)):
                said += piece
            if len(said) <= _LARGEST and await process.wait() == 0:
                return said.decode(errors="replace")
    except TimeoutError:
        pass
    finally:
        await end(process)
    return None


async def end(process: Process) -> None:
    """End a program and what it started; one that even the kernel can't end is left to it."""
    if process.returncode is None:
        kill_group(process.pid)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.communicate(), _ENDING)


class CardReader:
    """A child that has the drivers' libraries loaded, and tells the cards as often as it is asked."""

    def __init__(self, argv: Sequence[str] = (), seconds: float = 3.0, root: Path = Path("/")) -> None:
        self._argv = argv or probe("cards")
        self._seconds = seconds
        self._root = root
        self._process: Process | None = None
        self._hung_at = -math.inf

    @property
    def is_hung(self) -> bool:
        """Whether a driver did not answer lately; it is asked again after a while."""
        return time.monotonic() - self._hung_at < PAUSE

    async def read(self) -> list[Card]:
        """The cards as they are now; without a word about their memory where a driver does not answer, or its library dies."""
        try:
            if not self.is_hung:
                async with asyncio.timeout(self._seconds):
                    return await self._answer()
        except TimeoutError:
            self._hung_at = time.monotonic()
            _log.warning("the driver of a GPU does not answer: models run on what engines themselves find")
        except (OSError, ValueError, msgspec.DecodeError):
            pass
        await self.close()
        return await asyncio.to_thread(find_cards, self._root, asks_drivers=False)

    async def _answer(self) -> list[Card]:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                limit=_LARGEST,
                env=environment(),
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()
        return msgspec.json.decode(await self._process.stdout.readline(), type=list[Card])

    async def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process is not None:
            await end(process)
