"""An engine as a wheel: compiled by zig for an old glibc, once for each kind of CPU, and packed with what `packaged` reads.

All variants of a machine share one place: ninja sees that only ggml's flags change from one to the next, and compiles those
files anew. A variant that is done is kept there, so a build that was ended goes on with the next.
"""

import asyncio
import base64
import hashlib
import shutil
import zipfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from serow import __version__
from serow.engines.build.build import Plan, Progress, Workshop
from serow.engines.build.sources import Recipe
from serow.engines.build.toolchain import foreign_toolchain
from serow.engines.build.zig import OLDEST_GLIBC, Target
from serow.engines.home import EXECUTABLE, EngineHome
from serow.engines.packaged import GROUP, MANIFEST, SPEAKS, Manifest, Variant
from serow.errors import RequestError
from serow.registries.package_index.pip_config import PipConfig

_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip knows no earlier moment
_V3 = ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_ARM = ("asimd", "asimdhp", "asimddp")


@dataclass(frozen=True)
class Cpu:
    """A kind of CPU: its name, what LLVM calls it, and what the kernel says of one."""

    name: str
    llvm: str
    needs: tuple[str, ...]


CPUS = {  # by machine, the fastest first
    "x86_64": (
        Cpu("x86-64-v4-bf16", "x86_64_v4+avx512vnni+avx512bf16", (*_V4, "avx512_vnni", "avx512_bf16")),
        Cpu("x86-64-v4-vnni", "x86_64_v4+avx512vnni", (*_V4, "avx512_vnni")),
        Cpu("x86-64-v4", "x86_64_v4", _V4),
        Cpu("x86-64-v3", "x86_64_v3", _V3),
    ),
    "aarch64": (
        Cpu("armv8.2-i8mm", "generic+v8_2a+fullfp16+dotprod+i8mm", (*_ARM, "i8mm")),
        Cpu("armv8.2-dotprod", "generic+v8_2a+fullfp16+dotprod", _ARM),
    ),
}


def find_cpus(machine: str, names: Sequence[str]) -> tuple[Cpu, ...]:
    """The variants of these names, all when none is named; raises RequestError for one that there is none of."""
    if machine not in CPUS:
        raise RequestError(f"engines are not packed for {machine}", hint=f"machines: {', '.join(CPUS)}")
    known = {cpu.name: cpu for cpu in CPUS[machine]}
    if unknown := [name for name in names if name not in known]:
        raise RequestError(f"there is no variant '{unknown[0]}'", hint=f"variants: {', '.join(known)}")
    return tuple(cpu for cpu in CPUS[machine] if not names or cpu.name in names)


class EngineWheel:
    """A wheel in the making: `make` compiles what is not there yet, and packs it."""

    def __init__(self, home: EngineHome, name: str, recipe: Recipe, machine: str, cpus: Sequence[Cpu]) -> None:
        glibc = ".".join(map(str, OLDEST_GLIBC))
        targets = {cpu: Target(f"{machine}-linux-gnu.{glibc}", cpu.llvm) for cpu in cpus}
        plans = {cpu: Plan(name, recipe, foreign_toolchain(target)) for cpu, target in targets.items()}
        self._shops = {cpu: Workshop(home, plan) for cpu, plan in plans.items()}
        self._place = home.workplace(name) / plans[cpus[0]].key  # the same for all
        self._name, self._recipe, self._machine = name, recipe, machine

    async def make(self, config: PipConfig, directory: Path) -> AsyncGenerator[Progress, None]:
        """Write the wheel into a directory; raises BuildError, PullError, StoreError, RequestError."""
        with next(iter(self._shops.values())).lock():
            for cpu, shop in self._shops.items():
                if self._executable(cpu).exists():
                    continue
                for steps in (shop.fetch(config), shop.compile()):
                    async with aclosing(steps):
                        async for step in steps:
                            yield step._replace(status=f"{cpu.name}: {step.status}")
                await asyncio.to_thread(self._keep, cpu, shop)
            yield Progress("packing")
            await asyncio.to_thread(self._pack, directory)

    @property
    def is_compiled(self) -> bool:
        """Whether all that is left to do is packing."""
        return all(self._executable(cpu).exists() for cpu in self._shops)

    @property
    def _variants(self) -> Path:
        return self._place / "variants"

    def _executable(self, cpu: Cpu) -> Path:
        return self._variants / cpu.llvm / EXECUTABLE

    def _keep(self, cpu: Cpu, shop: Workshop) -> None:
        """Put what was compiled where the next variant does not overwrite it."""
        path = self._executable(cpu)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(self._place / "source" / "LICENSE", self._variants / "LICENSE")
        partial = path.with_suffix(".partial")
        shutil.copyfile(shop.made, partial)
        partial.rename(path)

    def _pack(self, directory: Path) -> None:
        executables = {cpu: self._executable(cpu) for cpu in self._shops}
        manifest = Manifest(
            speaks=SPEAKS,
            source=self._recipe.sdist.filename,
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
            variants=tuple(Variant(cpu.name, cpu.needs, _sha256(path)) for cpu, path in executables.items()),
        )
        named = {cpu.name: path for cpu, path in executables.items()}
        pack(self._name, manifest, named, self._machine, (self._variants / "LICENSE").read_bytes(), directory)
        for path in self._place.iterdir():  # what is kept is small
            if path != self._variants:
                shutil.rmtree(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack(name: str, manifest: Manifest, executables: dict[str, Path], machine: str, licence: bytes, directory: Path) -> Path:
    """Write the wheel of an engine: its executables by the names of their variants, and what tells of them."""
    package, info = f"serow_engine_{name}", f"serow_engine_{name}-{__version__}.dist-info"
    glibc = "_".join(map(str, OLDEST_GLIBC))
    tag = f"py3-none-manylinux_{glibc}_{machine}"
    files = {
        f"{package}/__init__.py": f'"""The engine {name} of Serow, compiled: see engine.json."""\n'.encode(),
        f"{package}/{MANIFEST}": msgspec.json.format(msgspec.json.encode(manifest), indent=1),
        f"{info}/METADATA": _metadata(name, manifest).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: serow\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
        f"{info}/entry_points.txt": f"[{GROUP}]\n{name} = {package}\n".encode(),
        f"{info}/licenses/LICENSE": licence,
    }
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{package}-{__version__}-{tag}.whl"
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as wheel:
        lines = [
            _add(wheel, f"{package}/{variant}/{EXECUTABLE}", file.read_bytes(), 0o755) for variant, file in executables.items()
        ]
        lines += [_add(wheel, file, data, 0o644) for file, data in files.items()]
        _add(wheel, f"{info}/RECORD", "".join([*lines, f"{info}/RECORD,,\n"]).encode(), 0o644)
    partial.rename(path)
    return path


def _add(wheel: zipfile.ZipFile, name: str, data: bytes, mode: int) -> str:
    """Add a file; its line of RECORD."""
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, (0o100000 | mode) << 16
    wheel.writestr(entry, data)
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def _metadata(name: str, manifest: Manifest) -> str:
    variants = ", ".join(variant.name for variant in manifest.variants)
    return (
        "Metadata-Version: 2.4\n"
        f"Name: serow-engine-{name}\n"
        f"Version: {__version__}\n"
        f"Summary: A fast engine for Serow, compiled for {variants}\n"
        "License-Expression: MIT\n"
        "License-File: LICENSE\n"
        "Requires-Python: >=3.11\n"
        "\n"
        f"Made of {manifest.source}, with Serow's edits. Nothing in it is for other programs.\n"
    )
