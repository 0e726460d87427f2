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

from serow.engines.build import cuda
from serow.engines.build.command import run
from serow.engines.build.edit import BuildError
from serow.engines.build.sources import Recipe
from serow.engines.build.toolchain import Toolchain
from serow.engines.build.tools import CMAKE, NINJA, TOOLS, ZIG
from serow.engines.build.unpack import unpack
from serow.engines.build.zig import Target, write_scripts
from serow.engines.home import BUILD_LOG, EXECUTABLE, Build, EngineHome, disk_errors
from serow.registries.package_index.distribution import Distribution
from serow.registries.package_index.download import download
from serow.registries.package_index.pip_config import PipConfig

VERSION_DEADLINE = 60.0  # seconds for a new executable to say its version
_LONGEST_VERSION = 64 << 10  # bytes
_SILENCE = 3600.0  # seconds; a compiler says nothing while it works on one file
_MEMORY = 2 << 30  # bytes that a compiler may take
_GPU_DISK = 2_000_000_000  # bytes that a GPU's objects take more
_ZIG_DISK = 900_000_000  # bytes of its wheel, what is in it, and the libraries that it builds
_FULL = 1 << 20  # bytes that are left of a disk on which nothing can be built
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
        return (self.recipe.sdist, *self.toolchain.wheels.values(), *self.toolchain.gpu.wheels)

    @property
    def options(self) -> list[str]:
        """CMake's options, but for those that name the CPU, or places in the work directory."""
        gpu, target, flags = self.toolchain.gpu, self.toolchain.compiler.target, " ".join(self.toolchain.flags)
        return [
            *((f"CMAKE_C_FLAGS={flags}", f"CMAKE_CXX_FLAGS={flags}") if flags else ()),
            *self.recipe.options,
            *(f"{option}={'ON' if backend is gpu.backend else 'OFF'}" for backend, option in self.recipe.backends.items()),
            *gpu.options,
            *(target.options if target else ()),
        ]

    @property
    def key(self) -> str:
        """Changes with all that goes into the objects, but the CPU: that is ninja's to see."""
        compiler = self.toolchain.compiler
        told = (compiler.c, compiler.cxx, compiler.version, compiler.target and compiler.target.system)
        fetched = self.toolchain.wheels, self.toolchain.gpu.wheels
        parts = (self.recipe, told, self.toolchain.installed, fetched, self.options)
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
        self._compiler = self._work / "compiler"
        self._cuda = self._work / "cuda"
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
        async with aclosing(self.compile()) as steps:
            async for step in steps:
                yield step
        with disk_errors(), self.log.open("ab", buffering=0) as log:
            yield Progress("trying it")
            await self._try(log)
            yield Progress("installing")
            await asyncio.to_thread(self._install)

    async def compile(self) -> AsyncGenerator[Progress, None]:
        """Unpack and compile it; raises BuildError, StoreError. What it makes is `made`."""
        with self._full_disk_told(), disk_errors(), self.log.open("wb", buffering=0) as log:
            for part in self._missing():
                yield Progress(f"unpacking {part.archive.filename}")
                await asyncio.to_thread(self._unpack, part)
            if target := self._plan.toolchain.compiler.target:
                yield Progress("preparing the compiler, a minute or two")
                await self._prepare_zig(target, log)
            if parts := self._cuda_parts:
                await asyncio.to_thread(cuda.lay_out, [part.directory for part in parts], self._cuda)
            yield Progress("configuring")
            await self._configure(log)
            async with aclosing(self._build(log)) as steps:
                async for step in steps:
                    yield step

    @contextmanager
    def _full_disk_told(self) -> Iterator[None]:
        """Say why a program failed that wrote to a full disk: it seldom says so itself, and the next one misses its files."""
        try:
            yield
        except BuildError as error:
            if shutil.disk_usage(self._place).free > _FULL:
                raise
            raise BuildError(f"the disk is full: {error}", hint=f"free some space, the build goes on; {error.hint}") from None

    @property
    def made(self) -> Path:
        """The executable, once it is compiled."""
        return self._objects / "bin" / EXECUTABLE

    def _missing(self) -> list[_Part]:
        """What is not unpacked yet; what is there is complete."""
        recipe, wheels = self._plan.recipe, self._plan.toolchain.wheels
        parts = [_Part(recipe.sdist, recipe.subtree, self._source)]
        parts += [
            _Part(wheels[tool.name], tool.subtree, self._work / tool.name) for tool in (*TOOLS, ZIG) if tool.name in wheels
        ]
        parts += self._cuda_parts
        return [part for part in parts if not part.directory.exists()]

    @property
    def _cuda_parts(self) -> list[_Part]:
        return [_Part(wheel, cuda.SUBTREE, self._work / wheel.project) for wheel in self._plan.toolchain.gpu.wheels]

    def _unpack(self, part: _Part) -> None:
        partial = part.directory.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        unpack(self._place / part.archive.filename, part.subtree, partial)
        if part.directory == self._source:
            self._plan.recipe.change(partial)
        partial.rename(part.directory)

    async def _prepare_zig(self, target: Target, log: BinaryIO) -> None:
        """Write its scripts, and have it build the C++ library, which would look like a test of CMake's that hangs."""
        write_scripts(Path(self._plan.toolchain.tool(ZIG, self._work)), target, self._compiler)
        source = self._compiler / "first.cpp"
        source.write_text("#include <string>\nint main() { return std::string().size(); }\n")
        argv = [str(self._compiler / "c++"), *self._plan.toolchain.flags, str(source), "-o", str(self._compiler / "first")]
        await self._finish(argv, log)

    async def _configure(self, log: BinaryIO) -> None:
        tool = self._plan.toolchain.tool
        options = [f"CMAKE_MAKE_PROGRAM={tool(NINJA, self._work)}", *self._plan.options, *self._chosen]
        places = ("-S", str(self._source), "-B", str(self._objects))
        argv = [tool(CMAKE, self._work), *places, "-G", "Ninja", *(f"-D{option}" for option in options)]
        await self._finish(argv, log)

    @property
    def _chosen(self) -> tuple[str, ...]:
        """The options that the plan leaves out."""
        toolchain = self._plan.toolchain
        target = toolchain.compiler.target
        gpu_options = cuda.options(self._cuda) if toolchain.gpu.wheels else ()
        return (*toolchain.compiler_options(self._compiler), *(target.cpu_options if target else ()), *gpu_options)

    async def _build(self, log: BinaryIO) -> AsyncGenerator[Progress, None]:
        ninja = self._plan.toolchain.tool(NINJA, self._work)
        async with aclosing(self._run([ninja, "-C", str(self._objects), "-j", str(_jobs()), "llama-server"], log)) as output:
            async for chunk in output:
                if steps := _STEP.findall(chunk):
                    yield Progress("compiling", *(int(number) for number in steps[-1]))

    async def _try(self, log: BinaryIO) -> None:
        """Raise BuildError unless it says its version, in time."""
        argv, told = [str(self.made), "--version"], b""
        try:
            async with asyncio.timeout(VERSION_DEADLINE):
                async with aclosing(self._run(argv, log)) as output:
                    async for chunk in output:
                        told += chunk
                        if len(told) > _LONGEST_VERSION:
                            break
                if self._plan.recipe.has_probe:
                    await self._finish([str(self.made), "--probe"], log)
        except TimeoutError:
            raise BuildError("the engine that was built hangs", hint=self._hint) from None
        except OSError as error:
            if error.errno not in _NO_PROGRAM:
                raise
            raise BuildError("what was built is no program", hint=self._hint) from error
        if b"version" not in told or len(told) > _LONGEST_VERSION:
            raise BuildError("what was built is no llama-server: it does not say its version", hint=self._hint)

    def _install(self) -> None:
        with self.made.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        backend = self._plan.toolchain.gpu.backend
        build = Build(
            sha256=sha256,
            source=self._plan.recipe.sdist.filename,
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
            backends=(backend.value,) if backend else (),
        )
        libraries = cuda.runtime(self._cuda) if self._plan.toolchain.gpu.wheels else ()
        self._home.install(self._plan.name, self.made, build, libraries)
        self._clear({self.log.name})

    async def _finish(self, argv: list[str], log: BinaryIO) -> None:
        """Run it to its end."""
        async with aclosing(self._run(argv, log)) as output:
            async for _ in output:
                continue

    def _run(self, argv: list[str], log: BinaryIO) -> AsyncGenerator[bytes, None]:
        return run(argv, log, environ=self._environ, silence=_SILENCE, hint=self._hint)

    @property
    def _environ(self) -> dict[str, str]:
        """Ours without secrets. Messages are in English, and no git repository above is taken for the sources'."""
        inherited = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
        cache = str(self._work / "cache")
        ours = {"LC_ALL": "C", "NINJA_STATUS": "[%f/%t] ", "GIT_CEILING_DIRECTORIES": str(self._work)}
        return inherited | ours | {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}

    @property
    def _hint(self) -> str:
        alone = f"; without the GPU: serow engine build {self._plan.name} --cpu" if self._plan.toolchain.gpu.backend else ""
        return f"the whole log: {self.log}{alone}"

    def _require_space(self) -> None:
        there = sum(path.stat().st_size for path in self._place.rglob("*") if path.is_file())
        toolchain = self._plan.toolchain
        more = _GPU_DISK * bool(toolchain.gpu.backend) + _ZIG_DISK * bool(toolchain.compiler.target)
        more += cuda.DISK * bool(toolchain.gpu.wheels)
        needed = self._plan.recipe.disk + more - there
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
