"""What the tests of the pool have done in its processes."""

import os
import signal
import sys
import time
from pathlib import Path

from serow.errors import FormatError

PRELOAD = ("colorsys",)


def double(number: int) -> int:
    """Something quick."""
    return 2 * number


def reverse(data: bytes) -> bytes:
    """Bytes for bytes."""
    return data[::-1]


def process_id() -> int:
    """Which process does the work."""
    return os.getpid()


def nap(seconds: float) -> int:
    """Wait without working; which process did."""
    time.sleep(seconds)
    return os.getpid()


def work(seconds: float) -> int:
    """Use so much CPU time; which process did."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return os.getpid()


def spin() -> None:
    """Work for ever, in native code that lets no other thread run."""
    pow(3, 10**12)


def fill() -> int:
    """Take more and more memory."""
    kept = []
    while True:
        kept.append(bytearray(16 << 20))


def fall() -> None:
    """End as native code does that goes wrong."""
    os.kill(os.getpid(), signal.SIGSEGV)


def refuse(text: str) -> None:
    """Raise an error of ours."""
    raise FormatError(text, hint="another way")


def fail() -> None:
    """Raise what nobody expected."""
    raise ZeroDivisionError


def descend(levels: int) -> int:
    """Recur without end."""
    return 1 + descend(levels + 1)


def chat(text: str) -> str:
    """Print on the way, as libraries do."""
    print(text, flush=True)
    os.write(1, text.encode())
    return text


def lie() -> int:
    """Return something else than it says."""
    return "not a number"  # type: ignore[return-value]


def loaded() -> list[str]:
    """Which large modules are there."""
    return [name for name in ("asyncio", "serow.constraints", "uvicorn", "aiohttp", "PIL", "colorsys") if name in sys.modules]


def write(path: str) -> str:
    """Try to write a file."""
    try:
        Path(path).write_text("something")
    except OSError as error:
        return type(error).__name__
    return ""


def core_limit() -> int:
    """The largest core file in bytes."""
    import resource

    return resource.getrlimit(resource.RLIMIT_CORE)[0]


def oom_score() -> int:
    """How early the system ends this process when memory ends."""
    return int(Path("/proc/self/oom_score_adj").read_text())


def environment() -> list[str]:
    """Names of the variables that it knows."""
    return sorted(os.environ)
