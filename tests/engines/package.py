"""`serow-engine-ik` as a wheel of a few kilobytes: its executables are scripts."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from serow.engines.build.wheel import pack
from serow.engines.packaged import SPEAKS, Manifest, Variant

GOOD = "#!/bin/sh\necho version: 1\n"


def make_wheel(
    directory: Path, variants: Mapping[str, tuple[tuple[str, ...], str]], *, speaks: int = SPEAKS, machine: str = "x86_64"
) -> Path:
    """Pack scripts: by the variant's name, what a CPU has to announce and the script's text."""
    executables, described = {}, []
    for name, (needs, text) in variants.items():
        executables[name] = directory / f"{name}.sh"
        executables[name].write_text(text)
        described.append(Variant(name, needs, hashlib.sha256(text.encode()).hexdigest()))
    manifest = Manifest(speaks, "ik.tar.gz", "2026-01-02T03:04:05+00:00", tuple(described))
    return pack("ik", manifest, executables, machine, b"MIT", directory)


def install(wheel: Path, site: Path) -> None:
    """Lay it out as pip does, which keeps what may be executed executable."""
    with zipfile.ZipFile(wheel) as file:
        for entry in file.infolist():
            path = Path(file.extract(entry, site))
            path.chmod((entry.external_attr >> 16) & 0o777)
