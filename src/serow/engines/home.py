"""The directory of the engines that were built on this machine.

<root>/<name>/llama-server    the executable
<root>/<name>/engine.json     what it was built from: `Build`
<root>/used                   the name that `serow engine use` chose; none: the fastest checked one for each model
<root>/checks.json            what engines were seen to do with which model: see `checks`
<root>/build/<name>/          sources, objects and the log of a build, kept so that it can go on: see `build`
"""

import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from serow.errors import NotFound, RequestError
from serow.runner.engine import KINDS, LLAMA_CPP, WHEEL, Engine, find_kind
from serow.settings import Settings

EXECUTABLE = "llama-server.exe" if sys.platform == "win32" else "llama-server"
_LONGEST_RECORD = 64 << 10  # bytes


class Build(Struct, frozen=True, kw_only=True):
    """How an engine came to be. `sha256` is the executable's."""

    sha256: str
    source: str  # the sdist: "ik_llama_cpp_python-0.1.5.tar.gz"
    built_at: str  # RFC 3339
    backends: tuple[str, ...] = ()  # beside the CPU: "cuda", "vulkan" …


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
        raise NotFound(f"the engine {name} is not built", hint=f"build it: serow engine build {name}")

    def build_of(self, name: str) -> Build | None:
        """The record of a build; None for one that is not there or can't be read."""
        try:
            with (self.directory(name) / "engine.json").open("rb") as file:
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

    def _read(self, name: str) -> Engine | None:
        build, executable = self.build_of(name), self.directory(name) / EXECUTABLE
        if build is None or not executable.is_file():
            return None
        return Engine(KINDS[name], build.sha256[:12], executable, has_gpu=bool(build.backends))


def forced(settings: Settings) -> Engine | None:
    """The one engine that the settings want for every model; raises NotFound, or RequestError for two that contradict."""
    if settings.llama_server:
        kind = find_kind(settings.engine) if settings.engine else LLAMA_CPP
        if kind.flags is None:
            raise RequestError("SEROW_ENGINE=wheel and SEROW_LLAMA_SERVER contradict each other", hint="unset one of them")
        return Engine(kind, executable=settings.llama_server)
    return EngineHome(settings.engines).find(settings.engine) if settings.engine else None
