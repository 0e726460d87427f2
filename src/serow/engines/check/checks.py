"""What engines were seen to do with which model: the results of `serow engine check`, and of engines that died at work.

A result holds for one build of an engine, one model file and one set of flags. They lie in `checks.json` of the engines'
directory, which servers and the command line change under a lock, always as a whole.
"""

import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import geometric_mean

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from serow.engines.home import EngineHome, disk_errors
from serow.engines.kinds import DEFAULT_FLAGS, WHEEL, Engine, FlagSet
from serow.errors import StoreError
from serow.store.blobs import write_atomic
from serow.store.model import Model
from serow.system.lock import FileLock

_LARGEST_FILE = 16 << 20  # bytes
_PACKED = 0.95  # of its speed that a packed cache is chosen by
_QUIET = 0.1  # of all cores: what others may take before speeds are worth little
_LOCK_TIMEOUT = 1.0  # seconds; who holds it writes one small file
_log = logging.getLogger(__name__)


class Speeds(Struct, frozen=True):
    """Tokens a second, as measured by a check."""

    prompt: float  # of a new prompt
    decode: float  # of one stream
    repeat: float  # of one stream whose text repeats itself, which is what drafts are for
    together: float  # of eight streams

    def over(self, other: "Speeds") -> float:
        """How many times as fast as `other`: the geometric mean of the ratios."""
        return geometric_mean(mine / theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True))


class Check(Struct, frozen=True, kw_only=True):
    """One result. `reason` says why it failed, "" when it passed."""

    engine: str
    build: str
    model: str  # `model_key`
    flags: FlagSet
    reason: str = ""
    speeds: Speeds | None = None
    wheel: Speeds | None = None  # the wheel's, asked in turn with the engine: other moments are no measure
    wheel_build: str = WHEEL.build  # of the wheel that it was compared with
    wheel_flags: FlagSet = DEFAULT_FLAGS  # how that was started: as the settings say
    checked_at: str = ""  # RFC 3339
    disturbance: float = 0.0  # share of all cores that other processes took while it was measured

    @classmethod
    def of(
        cls,
        engine: Engine,
        flags: FlagSet,
        model: Model,
        *,
        reason: str = "",
        speeds: Speeds | None = None,
        wheel: Speeds | None = None,
        wheel_flags: FlagSet = DEFAULT_FLAGS,
        disturbance: float = 0.0,
    ) -> "Check":
        """The result of this moment."""
        return cls(
            engine=engine.name,
            build=engine.build,
            model=model_key(model),
            flags=flags,
            reason=reason,
            speeds=speeds,
            wheel=wheel,
            wheel_flags=wheel_flags,
            checked_at=datetime.now(UTC).isoformat(timespec="seconds"),
            disturbance=round(disturbance, 3),
        )

    @property
    def speedup(self) -> float:
        """How many times as fast as the wheel; 0 for what has not passed."""
        return self.speeds.over(self.wheel) if self.speeds and self.wheel and not self.reason else 0.0

    @property
    def merit(self) -> float:
        """What a choice goes by: the speedup, held down where the cache is packed, which has to be worth its rounding."""
        return self.speedup * (1.0 if self.flags.cache_type == "f16" else _PACKED)

    @property
    def is_disturbed(self) -> bool:
        """Whether others took so much of the CPU that the speeds are worth little."""
        return self.disturbance > _QUIET

    @property
    def passed(self) -> bool:
        """Whether models may run so by default."""
        return self.speedup > 0

    def is_about(self, engine: Engine, model: Model, wheel_flags: FlagSet) -> bool:
        """Whether it holds for this build of the engine and this model, and was compared with the wheel as it runs here."""
        named = self.engine, self.build, self.model, self.wheel_build, self.wheel_flags
        return named == (engine.name, engine.build, model_key(model), WHEEL.build, wheel_flags)

    def replaces(self, other: "Check") -> bool:
        """Whether it makes the other one obsolete: newer, of the same engine, model and flags; whichever build it was."""
        mine, others = ((each.engine, each.model, each.flags, each.wheel_flags) for each in (self, other))
        return mine == others


class _File(Struct, frozen=True):
    """What `checks.json` holds. Version 1 was the tuple alone; a result that can't be read is skipped, never dropped."""

    version: int = 2
    checks: tuple[msgspec.Raw, ...] = ()


def model_key(model: Model) -> str:
    """What results of a model are kept by: the names of its files in the store, which are their digests."""
    files = (model.weights, model.projector, *model.adapters, model.draft and model.draft.path)
    return "+".join(file.name for file in files if file)


class Checks:
    """The results of one directory. Reading is cheap: the file is read again only when it has changed."""

    def __init__(self, root: Path) -> None:
        self._path = root / "checks.json"
        self._stamp: tuple[int, ...] = ()  # tells the file that was read last from every other
        self._checks: tuple[Check, ...] = ()
        self._unread: tuple[msgspec.Raw, ...] = ()  # of another version of Serow: carried along

    def all(self) -> tuple[Check, ...]:
        """Every result; none when there is no file, or none that can be read."""
        try:
            status = self._path.stat()
        except OSError:
            self._stamp, self._checks = (), ()
            return ()
        stamp = status.st_mtime_ns, status.st_ino, status.st_size
        if stamp != self._stamp:
            self._stamp, self._checks = stamp, self._read()
        return self._checks

    def about(self, engine: Engine, model: Model, wheel_flags: FlagSet = DEFAULT_FLAGS) -> list[Check]:
        """The results of this build of the engine with this model, beside a wheel that was started so."""
        return [check for check in self.all() if check.is_about(engine, model, wheel_flags)]

    def put(self, new: Iterable[Check]) -> None:
        """Keep results in place of those that they replace; raises StoreError."""
        added = tuple(new)
        with disk_errors():
            EngineHome(self._path.parent).claim()
            with FileLock(self._path.with_suffix(".lock")) as lock:
                _await(lock)
                kept = (old for old in self.all() if not any(each.replaces(old) for each in added))
                raw = (msgspec.Raw(msgspec.json.encode(each)) for each in (*kept, *added))
                data = msgspec.json.encode(_File(checks=(*self._unread, *raw)))
                write_atomic(self._path, msgspec.json.format(data, indent=1), 0o600)

    def _read(self) -> tuple[Check, ...]:
        """Every result that this version understands; one that it does not costs none of the others."""
        self._unread = ()
        try:
            with self._path.open("rb") as file:
                found = msgspec.json.decode(file.read(_LARGEST_FILE), type=_File | tuple[msgspec.Raw, ...])
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("the results of engine checks can't be read: %s", error)
            return ()
        checks, unread = [], []
        for raw in found.checks if isinstance(found, _File) else found:
            try:
                checks.append(msgspec.json.decode(raw, type=Check))
            except msgspec.DecodeError:
                unread.append(msgspec.Raw(bytes(raw)))
        if unread:
            _log.warning("%d results of engine checks are of another version and are not used", len(unread))
        self._unread = tuple(unread)
        return tuple(checks)


def _await(lock: FileLock) -> None:
    deadline = time.monotonic() + _LOCK_TIMEOUT
    while not lock.acquire():
        if time.monotonic() > deadline:
            raise StoreError("another process keeps the results of engine checks locked")
        time.sleep(0.01)
