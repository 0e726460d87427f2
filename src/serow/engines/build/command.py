"""A program that works for us: what it writes goes into a log, and it ends when we do."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import psutil

from serow.engines.build.edit import BuildError
from serow.engines.process import exit_name
from serow.system.limits import come_last, die_with_parent, is_last

CHUNK = 64 << 10  # bytes
_END_TIMEOUT = 10.0  # seconds that a program may take to end those that it started
_KILL_TIMEOUT = 60.0  # seconds for the system to take a killed one away
_TAIL = 64 << 10  # bytes of output that are searched for what went wrong
_LINES, _LONGEST_LINE = 8, 300
_TELLING = re.compile(r"\berror\b|^FAILED|Killed|no space left|undefined reference", re.IGNORECASE)
_KILL = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL


async def run(
    argv: Sequence[str], log: BinaryIO, *, environ: Mapping[str, str], silence: float, hint: str
) -> AsyncGenerator[bytes, None]:
    """Run a program to its end; yields what it writes, which is in `log` by then.

    Raises BuildError with its last errors when it fails, or writes nothing for `silence` seconds; OSError when it can't be
    started. A caller that leaves early ends it, and all that it started.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        limit=CHUNK,
        env=environ,
        start_new_session=True,
        preexec_fn=_settle if sys.platform == "linux" else None,
    )
    assert process.stdout is not None
    tail = bytearray()
    try:
        while chunk := await asyncio.wait_for(process.stdout.read(CHUNK), silence):
            log.write(chunk)
            tail += chunk
            del tail[:-_TAIL]
            yield chunk
        status = await asyncio.wait_for(process.wait(), silence)
    except TimeoutError:
        raise BuildError(f"{_name(argv)} made no progress for {silence:g} seconds", hint=hint) from None
    finally:
        await _end(process)
    if status:
        raise BuildError(f"{_name(argv)} ended with {exit_name(status)}{_errors(tail)}", hint=hint)


def _settle() -> None:
    """In the child: end with its parent, and give way where the parent does, though it has a session of its own."""
    die_with_parent(signal.SIGTERM)  # ninja then ends its compilers, which SIGKILL would leave behind
    if is_last():
        come_last()


async def _end(process: Process) -> None:
    """Return when it has ended, by itself, politely or by force, and its output is read to the end."""
    for number, timeout in ((signal.SIGTERM, _END_TIMEOUT), (_KILL, _KILL_TIMEOUT)):
        if process.returncode is None:
            _signal(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_drain(process), timeout)
            return


async def _drain(process: Process) -> None:
    assert process.stdout is not None
    while await process.stdout.read(CHUNK):
        continue
    await process.wait()


def _signal(pid: int, number: int) -> None:
    """Signal the program and, where it can't pass it on, those that it started."""
    if sys.platform == "win32":
        with contextlib.suppress(psutil.NoSuchProcess):
            program = psutil.Process(pid)
            for process in (*program.children(recursive=True), program):
                process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)


def _name(argv: Sequence[str]) -> str:
    return Path(argv[0]).name


def _errors(output: bytearray) -> str:
    """The last lines that tell of an error, or else the last lines, one below the other."""
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)] or lines
    return "".join(f"\n  {line[:_LONGEST_LINE]}" for line in telling[-_LINES:])
