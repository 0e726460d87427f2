"""What engines were seen to do with which model: the results of `serow engine check`, and of engines that died at work.

A result holds for one build of an engine, one model file and one set of flags. They lie in `checks.json` of the engines'
directory, which servers and the command line change under a lock, always as a whole.
"""

import logging
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from serow.errors import StoreError
from serow.registry.lock import FileLock
from serow.runner.engine import Engine, FlagSet
from serow.store.model import Model

_LARGEST_FILE = 16 << 20  # bytes
_LOCK_TIMEOUT = 5.0  # seconds
_log = logging.getLogger(__name__)


class Speeds(Struct, frozen=True):
    """Tokens a second, as measured by a check."""

    prompt: float  # of a new prompt
    decode: float  # of one stream
    together: float  # of eight streams

    def over(self, other: "Speeds") -> float:
        """How many times as fast as `other`: the geometric mean of the three ratios."""
        ratio = (self.prompt / other.prompt) * (self.decode / other.decode) * (self.together / other.together)
        return float(ratio ** (1 / 3))


class Check(Struct, frozen=True, kw_only=True):
    """One result. `reason` says why it failed, "" when it passed."""

    engine: str
    build: str
    model: str  # `model_key`
    flags: FlagSet
    reason: str = ""
    speeds: Speeds | None = None
    checked_at: str = ""  # RFC 3339

    @property
    def passed(self) -> bool:
        """Whether models may run so by default."""
        return not self.reason and self.speeds is not None

    def is_about(self, engine: Engine, model: Model) -> bool:
        """Whether it holds for this build of the engine and this model."""
        return (self.engine, self.build, self.model) == (engine.name, engine.build, model_key(model))

    def replaces(self, other: "Check") -> bool:
        """Whether it makes the other one obsolete: newer, of the same engine, model and flags; whichever build it was."""
        return (self.engine, self.model, self.flags) == (other.engine, other.model, other.flags)


def model_key(model: Model) -> str:
    """What results of a model are kept by: the name of its weights in the store, which is their digest."""
    return model.weights.name


class Checks:
    """The results of one directory. Reading is cheap: the file is read again only when it has changed."""

    def __init__(self, root: Path) -> None:
        self._path = root / "checks.json"
        self._read_at = 0  # the file's time in ns, when it was last read
        self._checks: tuple[Check, ...] = ()

    def all(self) -> tuple[Check, ...]:
        """Every result; none when there is no file, or none that can be read."""
        try:
            status = self._path.stat()
            if status.st_mtime_ns != self._read_at and status.st_size <= _LARGEST_FILE:
                self._checks = msgspec.json.decode(self._path.read_bytes(), type=tuple[Check, ...])
                self._read_at = status.st_mtime_ns
        except FileNotFoundError:
            self._checks = ()
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("the results of engine checks can't be read: %s", error)
        return self._checks

    def about(self, engine: Engine, model: Model) -> list[Check]:
        """The results of this build of the engine with this model."""
        return [check for check in self.all() if check.is_about(engine, model)]

    def put(self, new: Iterable[Check]) -> None:
        """Keep results in place of those that they replace; raises StoreError."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._path.with_suffix(".lock")) as lock:
                _await(lock)
                self._write(new)
        except OSError as error:
            raise StoreError(f"the result of the check can't be kept: {(error.strerror or 'unknown fault').lower()}") from error

    def _write(self, new: Iterable[Check]) -> None:
        added = tuple(new)
        kept = tuple(old for old in self.all() if not any(each.replaces(old) for each in added))
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".checks-")
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode((*kept, *added)), indent=1))
        Path(name).replace(self._path)


def _await(lock: FileLock) -> None:
    deadline = time.monotonic() + _LOCK_TIMEOUT
    while not lock.acquire():
        if time.monotonic() > deadline:
            raise StoreError("another process keeps the results of engine checks locked")
        time.sleep(0.01)
