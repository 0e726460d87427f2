"""Servers in the background: started where a command finds none, kept on record, ended on request.

Each has a record and a log in `servers` of the user's state directory, named by its port. A record proves that the process
was started here: its number together with the moment of its birth, which no other process has.
"""

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec

from serow import settings
from serow.cli import state
from serow.cli.diagnosis import ServerError
from serow.cli.table import human_duration
from serow.cli.terminal import tell
from serow.system.lock import FileLock

if TYPE_CHECKING:
    import psutil

    from serow.cli.client import Client

IDLE_TIMEOUT = "30m"  # without a model, where the user sets none
_START_DEADLINE, _END_DEADLINE = 30.0, 60.0  # seconds
_INTERVAL = 0.05  # seconds
_LOG_TAIL = 4096  # bytes


class Record(msgspec.Struct, frozen=True):
    """One server. `born` is its process's start as the system tells it, in seconds since 1970."""

    address: str
    pid: int
    born: float


@dataclass(frozen=True)
class Running:
    """A server that runs, and where its record and log are."""

    record: Record
    path: Path

    @property
    def log(self) -> Path:
        """What it says."""
        return self.path.with_suffix(".log")

    @property
    def started_at(self) -> datetime:
        """When it was started."""
        return datetime.fromtimestamp(self.record.born, UTC)


def start(client: "Client", address: str) -> None:
    """Start `serow serve` in the background and wait until it answers, then say so; raises ServerError."""
    if address.startswith("https") and settings.load().tls_cert is None:
        hint = "to start one set SEROW_TLS_CERT and SEROW_TLS_KEY"
        raise ServerError(f"no server answers at {address}", hint=hint)
    path = _directory() / f"{httpx.URL(address).port}.json"
    with state.disk_errors(path.parent), _alone(path):
        if _answers(client):
            return  # another command was quicker
        server = Running(_launch(client, address, path.with_suffix(".log")), path)
        path.write_bytes(msgspec.json.encode(server.record))
    tell("note", f"started a server in the background: {address}, process {server.record.pid}, log {state.shown(server.log)}")
    patience = settings.load({"SEROW_IDLE_TIMEOUT": IDLE_TIMEOUT} | os.environ).idle_timeout
    by_itself = "" if patience == math.inf else f"it ends after {human_duration(patience)} without a model; "
    tell("hint", f"{by_itself}end it now with: serow server stop")


def running() -> list[Running]:
    """The servers that were started here and still run; records of others are removed."""
    found = []
    for path in sorted(_directory().glob("*.json")):
        try:
            record = msgspec.json.decode(path.read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError):
            continue  # no record of ours, or one that is being written
        if _process(record):
            found.append(Running(record, path))
        else:
            path.unlink(missing_ok=True)
    return found


def end(server: Running) -> None:
    """End a server as SIGTERM does, and wait until it is gone; raises ServerError."""
    import psutil

    process = _process(server.record)
    if process is not None:
        try:
            process.terminate()
            process.wait(_END_DEADLINE)
        except psutil.TimeoutExpired:
            raise ServerError(f"process {server.record.pid} has not ended after {_END_DEADLINE:.0f} s") from None
        except psutil.NoSuchProcess:
            pass
        except psutil.AccessDenied:
            raise ServerError(f"process {server.record.pid} is not yours to end") from None
    server.path.unlink(missing_ok=True)


def _directory() -> Path:
    path = state.directory() / "servers"
    with state.disk_errors(path):
        path.mkdir(mode=0o700, exist_ok=True)
    return path


def _process(record: Record) -> "psutil.Process | None":
    """The process of a record, if it still runs and is no other that got its number."""
    import psutil

    try:
        process = psutil.Process(record.pid)
        is_it = abs(process.create_time() - record.born) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process if is_it else None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Commands that find no server at the same moment start one after the other."""
    deadline = time.monotonic() + _START_DEADLINE
    with FileLock(path.with_suffix(".lock")) as lock:
        while not lock.acquire():
            if time.monotonic() > deadline:
                raise ServerError("another command is starting a server and does not get on")
            time.sleep(_INTERVAL)
        yield


def _answers(client: "Client") -> bool:
    try:
        client.greet()
    except httpx.TransportError:
        return False
    return True


def _launch(client: "Client", address: str, log: Path) -> Record:
    """The server's record, once it answers."""
    begin = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serow", "serve", "--log-file", str(log)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"SEROW_IDLE_TIMEOUT": IDLE_TIMEOUT} | os.environ,
            **({"creationflags": 0x208} if sys.platform == "win32" else {"start_new_session": True}),
        )
    deadline = time.monotonic() + _START_DEADLINE
    while not _answers(client):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise ServerError(f"the server did not start: {_last_line(log, begin)}", hint=f"its log is {state.shown(log)}")
        time.sleep(_INTERVAL)
    process.returncode = 0  # it outlives us on purpose; else Popen warns
    import psutil

    return Record(address, process.pid, psutil.Process(process.pid).create_time())


def _last_line(log: Path, begin: int) -> str:
    """What the server said last since `begin`, without our own marks."""
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - _LOG_TAIL))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").split("\n")]
    said = [line for line in lines if line and not line.startswith("hint: ")]
    return said[-1].removeprefix("error: ") if said else "it said nothing"
