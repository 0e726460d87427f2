"""Pinned distributions, brought onto the disk from whichever place has them, and verified."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from serow.errors import PullError
from serow.registries.package_index.distribution import Distribution
from serow.registries.package_index.location import locations
from serow.registries.package_index.pip_config import PipConfig


async def download(wanted: Distribution, path: Path, config: PipConfig) -> AsyncGenerator[int, None]:
    """Bring a verified distribution to `path` from the first place that has it; yields how many bytes are there.

    Goes on from what `path` holds. Raises PullError for what goes wrong on the way, OSError for a failing disk.
    """
    if await asyncio.to_thread(is_intact, wanted, path):
        yield wanted.size
        return
    failure = PullError(f"the package index does not have {wanted.filename}", hint="see: pip config list")
    for location in locations(config):
        try:
            async with aclosing(location.fetch(wanted, path)) as lengths:
                async for length in lengths:
                    yield length
            if await asyncio.to_thread(is_intact, wanted, path):
                return
        except PullError as error:
            failure = error
    raise failure


def is_intact(wanted: Distribution, path: Path) -> bool:
    """Whether it is there as a whole. Removes one that is not what was promised; raises PullError for it."""
    if not path.exists() or path.stat().st_size != wanted.size:
        return False
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != wanted.sha256:
        path.unlink()
        raise PullError(f"digest mismatch: {wanted.filename} is not the file that was expected")
    return True
