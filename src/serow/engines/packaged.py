"""Engines that came as Python packages, such as `serow-engine-ik`: compiled for several CPUs, one of which is like this one.

A package names its directory by an entry point of the group `serow.engines`; `engine.json` there (`Manifest`) says what lies
beside it. Nothing of it is imported. `register` takes the first variant whose instructions the CPU announces and whose
kernels a child has run: virtual machines announce some that fault. What it took, or why none, stands in `packaged.json` of
the engines' directory, so that whoever chooses an engine only reads a small file.
"""

import hashlib
import logging
import os
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import msgspec
from msgspec import Struct

from serow.engines.kinds import KINDS
from serow.system.cpu import cpu_digest, cpu_flags
from serow.system.limits import clean_environment

GROUP = "serow.engines"
MANIFEST = "engine.json"
SPEAKS = 1  # what we say to these engines and understand of them; raised with each flag and edit that older ones lack
RECORD = "packaged.json"
PROBE_DEADLINE = 60.0  # seconds; it takes a tenth of one on a quiet machine
_LONGEST = 64 << 10  # bytes of a manifest, and of the record
_log = logging.getLogger(__name__)


class Variant(Struct, frozen=True):
    """One executable, `<name>/llama-server`: what a CPU has to announce, as the kernel calls it, and the file's digest."""

    name: str
    needs: tuple[str, ...]
    sha256: str


class Manifest(Struct, frozen=True):
    """What a package holds, the fastest variant first."""

    speaks: int
    source: str  # the sdist that it was compiled from
    built_at: str  # RFC 3339
    variants: tuple[Variant, ...]


class Packaged(Struct, frozen=True, kw_only=True):
    """What was found of one package: the variant that runs here, or the reason why none does."""

    package: str  # "serow-engine-ik 0.1.0"
    cpu: str  # `cpu_digest` of the machine that it was found on
    source: str = ""
    built_at: str = ""
    variant: str = ""
    executable: str = ""
    sha256: str = ""
    stamp: tuple[int, int] = (0, 0)  # size and time of the executable
    skipped: tuple[str, ...] = ()  # variants that should run here and do not, in words
    reason: str = ""
    hint: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether the executable is the one that was tried, on a CPU like the one that it was tried on."""
        return not self.reason and stamp_of(Path(self.executable)) == self.stamp and self.cpu == cpu_digest()


class _Record(Struct, frozen=True):
    """What `packaged.json` holds, by the engines' names."""

    engines: dict[str, Packaged] = {}


def read(root: Path) -> dict[str, Packaged]:
    """What was found when somebody looked last."""
    try:
        with (root / RECORD).open("rb") as file:
            return msgspec.json.decode(file.read(_LONGEST), type=_Record).engines
    except (OSError, msgspec.DecodeError):
        return {}


def encode(found: Mapping[str, Packaged]) -> bytes:
    """The record for `packaged.json`."""
    return msgspec.json.format(msgspec.json.encode(_Record(dict(found))), indent=1)


def stamp_of(path: Path) -> tuple[int, int]:
    """Changes when the file does; (0, 0) for none."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def look(known: Mapping[str, Packaged]) -> dict[str, Packaged]:
    """All packages of this Python, by the engine's name. What is sound already in `known` is not tried again."""
    return {entry.name: found for entry in _entries() if (found := _find(entry, known.get(entry.name)))}


def names() -> frozenset[str]:
    """The engines that came as packages, whether they run here or not."""
    return frozenset(entry.name for entry in _entries())


@cache
def _entries() -> tuple[EntryPoint, ...]:
    """Those of this Python; looking at all of its packages takes some time."""
    return tuple(entry for entry in entry_points(group=GROUP) if entry.name in KINDS and KINDS[entry.name].flags)


def _find(entry: EntryPoint, known: Packaged | None) -> Packaged | None:
    if entry.dist is None:
        return None
    package = f"{entry.dist.name} {entry.dist.version}"
    directory = Path(str(entry.dist.locate_file(entry.module)))
    if known and known.package == package and known.is_sound and directory in Path(known.executable).parents:
        return known
    nothing = Packaged(package=package, cpu=cpu_digest())
    try:
        with (directory / MANIFEST).open("rb") as file:
            manifest = msgspec.json.decode(file.read(_LONGEST), type=Manifest)
    except (OSError, msgspec.DecodeError):
        return _refuse(
            nothing, f"{package} can't be read", f"install it again: pip install --force-reinstall {entry.dist.name}"
        )
    if manifest.speaks != SPEAKS:
        return _refuse(
            nothing, f"{package} is made for another version of Serow", f"install the {entry.dist.name} of this release"
        )
    return _choose(msgspec.structs.replace(nothing, source=manifest.source, built_at=manifest.built_at), directory, manifest)


def _refuse(found: Packaged, reason: str, hint: str = "") -> Packaged:
    return msgspec.structs.replace(found, reason=reason, hint=hint)


def _choose(found: Packaged, directory: Path, manifest: Manifest) -> Packaged:
    """The first variant that works here."""
    flags, skipped = cpu_flags(), []
    fitting = [variant for variant in manifest.variants if flags.issuperset(variant.needs)]
    if not fitting:
        return _refuse(found, f"{found.package} needs a CPU with {_missing(manifest, flags)}, which this one lacks")
    for variant in fitting:
        executable = directory / variant.name / "llama-server"
        if fault := _fault(executable, variant):
            skipped.append(f"{variant.name} {fault}")
            continue
        return msgspec.structs.replace(
            found,
            variant=variant.name,
            executable=str(executable),
            sha256=variant.sha256,
            stamp=stamp_of(executable),
            skipped=tuple(skipped),
        )
    return _refuse(found, f"{found.package} does not run here: {'; '.join(skipped)}")


def _missing(manifest: Manifest, flags: frozenset[str]) -> str:
    """What the CPU lacks for the variant that asks least."""
    lacking = min((sorted({*variant.needs} - flags) for variant in manifest.variants), key=len, default=["another system"])
    return ", ".join(lacking)


def _fault(executable: Path, variant: Variant) -> str:
    """What is wrong with a variant, "" for one that works: its file is whole, and its kernels compute what they should."""
    try:
        with executable.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != variant.sha256:
                return "is not the file that was packed"
        argv, environ = [str(executable), "--probe"], clean_environment()
        ran = subprocess.run(argv, capture_output=True, env=environ, timeout=PROBE_DEADLINE, check=False)
    except OSError as error:
        return f"can't be run: {os.strerror(error.errno or 0)}"
    except subprocess.TimeoutExpired:
        return f"takes more than {PROBE_DEADLINE:g} seconds for its probe"
    if ran.returncode < 0:
        return f"faults on this CPU (signal {-ran.returncode})"
    wrong = ran.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return f"computes wrongly on this CPU ({' '.join(wrong) or f'status {ran.returncode}'})" if ran.returncode else ""


def sentences(found: Mapping[str, Packaged]) -> Iterator[str]:
    """What people have to know of packages that do not run, or not as well as they should."""
    for packaged in found.values():
        if packaged.reason:
            yield f"{packaged.reason}{'; ' * bool(packaged.hint)}{packaged.hint}"
        yield from (f"{packaged.package}: {skipped}; {packaged.variant} is used" for skipped in packaged.skipped)
