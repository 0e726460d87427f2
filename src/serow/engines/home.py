"""The directory of the engines: those that were built on this machine, and what is known of those that came as packages.

<root>/<name>/llama-server    the executable
<root>/<name>/engine.json     what it was built from: `Build`
<root>/used                   the name that `serow engine use` chose; none: the fastest checked one for each model
<root>/packaged.json          engines that came as Python packages, as they were found: see `packaged`
<root>/checks.json            what engines were seen to do with which model: see `checks`
<root>/build/<name>/          sources, objects and the log of a build, kept so that it can go on: see `build`
<root>/build/<name>.wanted    who builds it in the background has not come to an end yet
<root>/build/<name>.said      what the last build in the background said
<root>/build/<name>.lock      held by who builds or removes that engine
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from serow.engines import packaged
from serow.engines.kinds import KINDS, LLAMA_CPP, WHEEL, Engine, find_kind
from serow.engines.packaged import Packaged
from serow.errors import NotFound, RequestError
from serow.settings import Settings
from serow.store import blobs
from serow.system import owned
from serow.system.lock import FileLock

EXECUTABLE = "llama-server.exe" if sys.platform == "win32" else "llama-server"
_LONGEST_RECORD = 64 << 10  # bytes
_NAMES = {
    "used",
    packaged.RECORD,
    "checks.json",
    "checks.lock",
    "checking.lock",
    "build",
    owned.MARK,
    "lost+found",
}  # beside the engines
_RECORD = "engine.json"
LIBRARIES = "lib"  # the directory of what was fetched with an engine and is needed to run it
BUILD_LOG = "build.log"
_BUILT = re.compile(rf"{re.escape(BUILD_LOG)}|[0-9a-f]{{12}}|.+\.whl|.+\.tar\.gz")  # what builds put into their workplaces


class Build(Struct, frozen=True, kw_only=True):
    """How an engine came to be. `sha256` is the executable's."""

    sha256: str
    source: str  # the sdist: "ik_llama_cpp_python-0.1.5.tar.gz"
    built_at: str  # RFC 3339
    backends: tuple[str, ...] = ()  # beside the CPU: "cuda", "vulkan" …
    libraries: tuple[str, ...] = ()  # that lie beside it


# Turns an OSError of the engines' disk into a StoreError without a path.
disk_errors = partial(
    blobs.disk_errors,
    "the engines",
    "the directory of the engines",
    when_full="free some, or set SEROW_ENGINES to another disk; then try again",
    hint="see SEROW_ENGINES",
)


class EngineHome:
    """What lies below one directory. Reading never creates it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def directory(self, name: str) -> Path:
        """Where an engine lies, whether it is there or not; raises NotFound for a name that is none."""
        return self.root / find_kind(name).name

    def engines(self) -> list[Engine]:
        """All that can run models now, the wheel first."""
        found = [self._read(name) for name in KINDS if name != WHEEL.name]
        return [WHEEL, *(engine for engine in found if engine)]

    def find(self, name: str) -> Engine:
        """An engine by its name; raises NotFound for one that is not here."""
        kind = find_kind(name)
        for engine in self.engines():
            if engine.kind is kind:
                return engine
        if (found := self.packaged_of(name)) and found.reason:
            raise NotFound(f"the engine {name} can't run here: {found.reason}", hint=found.hint)
        raise NotFound(f"the engine {name} is not built", hint=f"build it: serow engine build {name}")

    def register(self) -> dict[str, Packaged]:
        """Look for engines that came as packages, try them, and write down what runs here; raises RequestError, StoreError."""
        known = packaged.read(self.root)
        found = packaged.look(known)
        if found != known:
            with disk_errors():
                self.claim()
                blobs.write_atomic(self.root / packaged.RECORD, packaged.encode(found), 0o600)
        return found

    def packaged_of(self, name: str) -> Packaged | None:
        """What was found of an engine's package, if there is one."""
        return packaged.read(self.root).get(name)

    def build_of(self, name: str) -> Build | None:
        """The record of a build; None for one that is not there or can't be read."""
        try:
            with (self.directory(name) / _RECORD).open("rb") as file:
                return msgspec.json.decode(file.read(_LONGEST_RECORD), type=Build)
        except (OSError, msgspec.DecodeError):
            return None

    @property
    def used(self) -> str:
        """The name that was chosen for all models, "" for none."""
        try:
            name = (self.root / "used").read_text()
        except (OSError, UnicodeDecodeError):
            return ""
        return name if name in KINDS else ""

    def workplace(self, name: str) -> Path:
        """Where an engine is built; raises NotFound for a name that is none."""
        return self.root / "build" / find_kind(name).name

    def wish(self, name: str) -> None:
        """Have an engine built by servers, until that has come to an end; raises RequestError, StoreError."""
        path = self._wish(name)
        with disk_errors():
            self.claim()
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.touch(mode=0o600)

    def forget_wish(self, name: str) -> None:
        """It has come to an end; raises StoreError."""
        with disk_errors():
            self._wish(name).unlink(missing_ok=True)

    def wishes(self) -> list[str]:
        """The engines that are to be built."""
        return [name for name in KINDS if self._wish(name).exists()]

    def _wish(self, name: str) -> Path:
        return self.workplace(name).with_name(f"{name}.wanted")

    def said_by(self, name: str) -> Path:
        """The file that a build in the background writes to."""
        return self.workplace(name).with_name(f"{name}.said")

    def is_locked(self, name: str) -> bool:
        """Whether somebody builds or removes it now."""
        path = self.workplace(name).with_name(f"{name}.lock")
        if not path.exists():
            return False
        with disk_errors(), FileLock(path) as lock:
            return not lock.acquire()

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Let nobody else build or remove this engine; raises RequestError when somebody does, or keeps files there."""
        path = self.workplace(name).with_name(f"{name}.lock")
        with disk_errors():
            self.claim()
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with FileLock(path) as lock:
                if not lock.acquire():
                    raise RequestError(f"the engine {name} is being built", hint="wait for it, or end the other command")
                self._require_own(name)
                yield

    def _require_own(self, name: str) -> None:
        """Raise RequestError where somebody keeps work of his own in the place of an engine or its build."""
        engine, place = self.directory(name), self.workplace(name)
        names = _names(engine)
        if names - {EXECUTABLE, _RECORD, LIBRARIES} or (names and _RECORD not in names):
            raise _others(engine)
        build = self.build_of(name)
        if _names(engine / LIBRARIES) - set(build.libraries if build else ()):
            raise _others(engine)
        if any(not _BUILT.fullmatch(each) for each in _names(place)):
            raise _others(place)

    def install(self, name: str, executable: Path, build: Build, libraries: Sequence[Path] = ()) -> None:
        """Move an executable into the place of the engine that is there, which stays as it is until then; raises StoreError.

        The libraries that it needs are moved beside it.
        """
        build = msgspec.structs.replace(build, libraries=tuple(library.name for library in libraries))
        target = self.directory(name)
        with disk_errors():
            self.claim()
        with disk_errors(), tempfile.TemporaryDirectory(dir=self.root, prefix=".engine-") as temporary:
            new, old = Path(temporary) / "new", Path(temporary) / "old"
            new.mkdir(mode=0o700)
            with executable.open("rb") as file:
                os.fsync(file.fileno())
            executable.replace(new / EXECUTABLE)
            for library in libraries:
                (new / LIBRARIES).mkdir(mode=0o700, exist_ok=True)
                library.replace(new / LIBRARIES / library.name)
            blobs.write_atomic(new / _RECORD, msgspec.json.format(msgspec.json.encode(build), indent=1), 0o600)
            if target.exists():
                target.rename(old)
            new.rename(target)

    def claim(self) -> None:
        """Make the directory ours before anything is written into it; raises RequestError when other people's work is there.

        What is ours, or was made by a version that left no mark, holds our names only, and engines with their records.
        """
        root = self.root.resolve()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if owned.is_ours(root):
            return
        names = {path.name for path in root.iterdir()}
        if names - _NAMES - KINDS.keys() or any(self.build_of(name) is None for name in names & KINDS.keys()):
            raise RequestError("the directory of the engines holds other files", hint="name one of its own in SEROW_ENGINES")
        owned.mark(root)

    def use(self, name: str) -> None:
        """Choose an engine for all models, "" for the fastest of each; raises NotFound for one that is not here, StoreError."""
        if name:
            self.find(name)
        path = self.root / "used"
        with disk_errors():
            if name:
                self.claim()
                blobs.write_atomic(path, name.encode(), 0o600)
            else:
                path.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove an engine, what is left of its build, and its choice; raises NotFound, RequestError, StoreError."""
        if find_kind(name) is WHEEL.kind:
            raise RequestError(
                "the wheel can't be removed: Serow can't do without it", hint="choose another: serow engine use NAME"
            )
        places = [path for path in (self.directory(name), self.workplace(name)) if path.exists()]
        if not places and not self.packaged_of(name):
            raise NotFound(f"the engine {name} is not built", hint="see what is there: serow engine list")
        if not places:
            raise RequestError(f"the engine {name} came as a package", hint=f"pip uninstall serow-engine-{name}")
        with self.lock(name):
            if self.used == name:
                self.use("")
            self.forget_wish(name)
            for path in places:
                shutil.rmtree(path)

    def _read(self, name: str) -> Engine | None:
        build, executable = self.build_of(name), self.directory(name) / EXECUTABLE
        if build and executable.is_file():
            return Engine(KINDS[name], build.sha256[:12], executable, has_gpu=bool(build.backends))
        found = self.packaged_of(name)
        if found and found.is_sound:
            return Engine(KINDS[name], found.sha256[:12], Path(found.executable), has_gpu=False)
        return None


def _names(directory: Path) -> set[str]:
    """What is in a directory, if there is one; raises RequestError for what is none, or a link to one."""
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise _others(directory)
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


def _others(path: Path) -> RequestError:
    return RequestError(
        f"{path.parent.name}/{path.name} of the engines' directory holds other files", hint=f"move them elsewhere: {path}"
    )


def forced(settings: Settings) -> Engine | None:
    """The one engine that the settings want for every model; raises NotFound, or RequestError for two that contradict."""
    if settings.llama_server:
        kind = find_kind(settings.engine) if settings.engine else LLAMA_CPP
        if kind.flags is None:
            raise RequestError("SEROW_ENGINE=wheel and SEROW_LLAMA_SERVER contradict each other", hint="unset one of them")
        path = settings.llama_server
        if not os.access(path, os.X_OK) or path.is_dir():
            raise RequestError(f"SEROW_LLAMA_SERVER={path} is no program", hint="give the path of a llama-server")
        return Engine(kind, executable=path)
    return EngineHome(settings.engines).find(settings.engine) if settings.engine else None
