"""Sdists and wheels, unpacked safely: regular files alone, none outside of the directory, bounded in number and size."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from serow.engines.build.edit import BuildError

MAX_MEMBERS = 20_000
MAX_SIZE = 1 << 30  # bytes of all members, those that are left out too: they have to be read past


@dataclass(frozen=True)
class _Member:
    """One entry of an archive; `open` is None for what is no regular file."""

    name: str
    size: int  # bytes
    is_directory: bool
    is_executable: bool
    open: Callable[[], IO[bytes]] | None


def unpack(archive: Path, subtree: str, directory: Path) -> None:
    """Write the files below `subtree` of an archive into `directory`, which is new; raises BuildError, OSError."""
    directory.mkdir(mode=0o700)
    try:
        for member in _bounded(_wheel(archive) if archive.suffix == ".whl" else _sdist(archive)):
            inner = _below(subtree, member.name)
            if inner and not member.is_directory:
                _write(member, directory.joinpath(*inner))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BuildError(f"{archive.name} is broken") from error
    if not any(directory.iterdir()):
        raise BuildError(f"{archive.name} does not hold what was expected")


def _sdist(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive, "r:gz") as tar:
        for info in tar:
            opened = partial(_extracted, tar, info) if info.isreg() else None
            yield _Member(info.name, info.size, info.isdir(), bool(info.mode & stat.S_IXUSR), opened)


def _extracted(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(info)
    assert file is not None  # it is a regular file
    return file


def _wheel(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as wheel:
        for info in wheel.infolist():
            mode = info.external_attr >> 16
            is_file = not info.is_dir() and stat.S_IFMT(mode) in (0, stat.S_IFREG)
            opened = partial(wheel.open, info) if is_file else None
            yield _Member(info.filename, info.file_size, info.is_dir(), bool(mode & stat.S_IXUSR), opened)


def _bounded(members: Iterator[_Member]) -> Iterator[_Member]:
    size = 0
    for count, member in enumerate(members, 1):
        size += member.size
        if count > MAX_MEMBERS or size > MAX_SIZE:
            raise BuildError("the archive is larger than it should be")
        yield member


def _below(subtree: str, name: str) -> tuple[str, ...]:
    """The path inside the subtree, () for what is not in it; raises BuildError for one that could lead out of it."""
    outer, parts = PurePosixPath(subtree).parts, PurePosixPath(name).parts
    if parts[: len(outer)] != outer:
        return ()
    inner = parts[len(outer) :]
    if any(part == ".." or set(part) & set("\\:\0") for part in inner):
        raise BuildError("the archive holds a path that leads out of it")
    return inner


def _write(member: _Member, path: Path) -> None:
    if member.open is None:
        raise BuildError("the archive holds a link or a device")
    path.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    if member.is_executable:
        path.chmod(0o700)
