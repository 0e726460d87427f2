"""Building an engine: its sdist is fetched, unpacked, edited, compiled for this machine, tried, and put into its place.

What is under way lies in `build/<name>` of the engines' directory, under a lock: a build that was killed goes on with what is
there. It is thrown away when anything that went into it has changed. The engine that is installed stays until a new one runs.
"""

import asyncio
import errno
import hashlib
import os
import re
import shutil
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

import psutil

from serow.engines.build.command import run
from serow.engines.build.edit import BuildError
from serow.engines.build.sources import Recipe
from serow.engines.build.toolchain import Toolchain
from serow.engines.build.tools import CMAKE, NINJA, TOOLS
from serow.engines.build.unpack import unpack
from serow.engines.home import BUILD_LOG, EXECUTABLE, Build, EngineHome, disk_errors
from serow.registries.package_index.distribution import Distribution
from serow.registries.package_index.download import download
from serow.registries.package_index.pip_config import PipConfig

VERSION_DEADLINE = 60.0  # seconds for a new executable to say its version
_LONGEST_VERSION = 64 << 10  # bytes
_SILENCE = 3600.0  # seconds; a compiler says nothing while it works on one file
_MEMORY = 2 << 30  # bytes that a compiler may take
_GPU_DISK = 2_000_000_000  # bytes that a GPU's objects take more
_NO_PROGRAM = (errno.ENOENT, errno.EACCES, errno.ENOEXEC)
_STEP = re.compile(rb"^\[(\d+)/(\d+)\] ", re.MULTILINE)
# names of variables that are no compiler's business: secrets, and addresses that may hold one
_SECRET = re.compile("SEROW_|OLLAMA_|OTEL_|PIP_|UV_|KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|HEADER|PROXY|_URL", re.IGNORECASE)


class Progress(NamedTuple):
    """What is being done; how much of it is done, in bytes or steps, where that is known."""

    status: str
    completed: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Plan:
    """What will be built, and with what."""

    name: str
    recipe: Recipe
    toolchain: Toolchain

    @property
    def downloads(self) -> tuple[Distribution, ...]:
        """What is fetched for it."""
        return (self.recipe.sdist, *self.toolchain.wheels.values())

    @property
    def options(self) -> list[str]:
        """CMake's options, but for those that name places in the work directory."""
        gpu, compiler, flags = self.toolchain.gpu, self.toolchain.compiler, " ".join(self.toolchain.flags)
        return [
            f"CMAKE_C_COMPILER={compiler.c}",
            f"CMAKE_CXX_COMPILER={compiler.cxx}",
            *((f"CMAKE_C_FLAGS={flags}", f"CMAKE_CXX_FLAGS={flags}") if flags else ()),
            *self.recipe.options,
            *(f"{option}={'ON' if backend is gpu.backend else 'OFF'}" for backend, option in self.recipe.backends.items()),
            *gpu.options,
        ]

    @property
    def key(self) -> str:
        """Changes with all that goes into the objects."""
        parts = (self.recipe, self.toolchain.compiler, self.toolchain.installed, self.toolchain.wheels, self.options)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class _Part:
    """What is unpacked of one archive, and into which directory."""

    archive: Distribution
    subtree: str
    directory: Path


class Workshop:
    """One build: under `lock`, fetch, then make. What they raise leaves the installed engine as it is."""

    def __init__(self, home: EngineHome, plan: Plan) -> None:
        self._home = home
        self._plan = plan
        self._place = home.workplace(plan.name)
        self._work = self._place / plan.key
        self._source = self._work / "source"
        self._objects = self._work / "objects"
        self.log = self._place / BUILD_LOG

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep others out, and throw away what is of no use; raises RequestError, StoreError, BuildError for a small disk."""
        with self._home.lock(self._plan.name):
            self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._clear({self.log.name, self._work.name, *(wanted.filename for wanted in self._plan.downloads)})
            self._require_space()
            yield

    async def fetch(self, config: PipConfig) -> AsyncGenerator[Progress, None]:
        """Bring what is not there yet, sizes in bytes; raises PullError, StoreError."""
        for part in self._missing():
            wanted = part.archive
            with disk_errors():
                async with aclosing(download(wanted, self._place / wanted.filename, config)) as lengths:
                    async for length in lengths:
                        yield Progress(f"fetching {wanted.filename}", length, wanted.size)

    async def make(self) -> AsyncGenerator[Progress, None]:
        """Unpack, compile, try and install it; raises BuildError, StoreError."""
        with disk_errors(), self.log.open("wb", buffering=0) as log:
            for part in self._missing():
                yield Progress(f"unpacking {part.archive.filename}")
                await asyncio.to_thread(self._unpack, part)
            yield Progress("configuring")
            await self._configure(log)
            async with aclosing(self._compile(log)) as steps:
                async for step in steps:
                    yield step
            yield Progress("trying it")
            await self._try(log)
            yield Progress("installing")
            await asyncio.to_thread(self._install)

    def _missing(self) -> list[_Part]:
        """What is not unpacked yet; what is there is complete."""
        recipe, wheels = self._plan.recipe, self._plan.toolchain.wheels
        parts = [_Part(recipe.sdist, recipe.subtree, self._source)]
        parts += [_Part(wheels[tool.name], tool.subtree, self._work / tool.name) for tool in TOOLS if tool.name in wheels]
        return [part for part in parts if not part.directory.exists()]

    def _unpack(self, part: _Part) -> None:
        partial = part.directory.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        unpack(self._place / part.archive.filename, part.subtree, partial)
        if part.directory == self._source:
            self._plan.recipe.change(partial)
        partial.rename(part.directory)

    async def _configure(self, log: BinaryIO) -> None:
        tool = self._plan.toolchain.tool
        options = [f"CMAKE_MAKE_PROGRAM={tool(NINJA, self._work)}", *self._plan.options]
        places = ("-S", str(self._source), "-B", str(self._objects))
        argv = [tool(CMAKE, self._work), *places, "-G", "Ninja", *(f"-D{option}" for option in options)]
        async with aclosing(self._run(argv, log)) as output:
            async for _ in output:
                continue

    async def _compile(self, log: BinaryIO) -> AsyncGenerator[Progress, None]:
        ninja = self._plan.toolchain.tool(NINJA, self._work)
        async with aclosing(self._run([ninja, "-C", str(self._objects), "-j", str(_jobs()), "llama-server"], log)) as output:
            async for chunk in output:
                if steps := _STEP.findall(chunk):
                    yield Progress("compiling", *(int(number) for number in steps[-1]))

    async def _try(self, log: BinaryIO) -> None:
        """Raise BuildError unless it says its version, in time."""
        argv, told = [str(self._objects / "bin" / EXECUTABLE), "--version"], b""
        try:
            async with asyncio.timeout(VERSION_DEADLINE), aclosing(self._run(argv, log)) as output:
                async for chunk in output:
                    told += chunk
                    if len(told) > _LONGEST_VERSION:
                        break
        except TimeoutError:
            raise BuildError("the engine that was built hangs", hint=self._hint) from None
        except OSError as error:
            if error.errno not in _NO_PROGRAM:
                raise
            raise BuildError("what was built is no program", hint=self._hint) from error
        if b"version" not in told or len(told) > _LONGEST_VERSION:
            raise BuildError("what was built is no llama-server: it does not say its version", hint=self._hint)

    def _install(self) -> None:
        executable = self._objects / "bin" / EXECUTABLE
        with executable.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        backend = self._plan.toolchain.gpu.backend
        build = Build(
            sha256=sha256,
            source=self._plan.recipe.sdist.filename,
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
            backends=(backend.value,) if backend else (),
        )
        self._home.install(self._plan.name, executable, build)
        self._clear({self.log.name})

    def _run(self, argv: list[str], log: BinaryIO) -> AsyncGenerator[bytes, None]:
        return run(argv, log, environ=self._environ, silence=_SILENCE, hint=self._hint)

    @property
    def _environ(self) -> dict[str, str]:
        """Ours without secrets. Messages are in English, and no git repository above is taken for the sources'."""
        inherited = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
        return inherited | {"LC_ALL": "C", "NINJA_STATUS": "[%f/%t] ", "GIT_CEILING_DIRECTORIES": str(self._work)}

    @property
    def _hint(self) -> str:
        alone = f"; without the GPU: serow engine build {self._plan.name} --cpu" if self._plan.toolchain.gpu.backend else ""
        return f"the whole log: {self.log}{alone}"

    def _require_space(self) -> None:
        there = sum(path.stat().st_size for path in self._place.rglob("*") if path.is_file())
        needed = self._plan.recipe.disk + (_GPU_DISK if self._plan.toolchain.gpu.backend else 0) - there
        free = shutil.disk_usage(self._place).free
        if free < needed:
            raise BuildError(
                f"building {self._plan.name} needs {needed // 10**6} MB of disk, {free // 10**6} MB are free",
                hint="free some space, or set SEROW_ENGINES to another disk",
            )

    def _clear(self, kept: set[str]) -> None:
        for path in self._place.iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _jobs() -> int:
    """How many compilers run at once: one for each core, as far as the memory goes."""
    affordable = int(psutil.virtual_memory().available // _MEMORY)
    return max(1, min(os.cpu_count() or 1, affordable))
