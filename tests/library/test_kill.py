"""A library that is killed at any moment leaves a store that is whole, and goes on where it ended."""

import asyncio
import hashlib
import os
import random
import sys
from pathlib import Path

import pytest

from serow.library import parts
from serow.library.pull import Pulls
from serow.registries.access import Access
from serow.store.store import Store
from tests.store.files import MODEL, gguf_file

from .busy_library import PART
from .conftest import QUICK, Registry, asked, digest_of, pulled

KILLS = int(os.environ.get("SEROW_TEST_KILLS", "6"))
WEIGHTS = gguf_file(MODEL.items(), data=random.Random(3).randbytes(8_000_000))


async def killed(root: Path, host: str, after: float) -> None:
    """Let a busy library run for a while, then kill it."""
    argv = [sys.executable, "-m", "tests.library.busy_library", str(root), host]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert (await asyncio.wait_for(process.stdout.readline(), 60)) == b"ready\n"
    try:
        said = await asyncio.wait_for(process.stdout.readline(), after)
    except TimeoutError:
        said = b""
    process.kill()
    await process.wait()
    assert said == b""


def check(store: Store) -> None:
    """Every manifest's blobs are whole, and every blob is what its name says."""
    for model in store.list():
        manifest = store.manifest(model.name)
        assert all(store.blobs.size(layer.digest) == layer.size for layer in (*manifest.layers, manifest.config))
    assert len(store.list()) == len(list(store.index.all()))
    for path in store.blobs.root.glob("sha256-*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.removeprefix("sha256-")


@pytest.mark.req("LIB-07", "LIB-11", "LIB-12", "LIB-23")
@pytest.mark.timeout(900)
async def test_a_library_that_is_killed_leaves_a_whole_store(registry: Registry, store: Store) -> None:
    registry.model("zoo/tiny", WEIGHTS, zoo="kill")
    moments = random.Random(4)
    for _ in range(KILLS):
        await killed(store.root, registry.host, moments.uniform(0.01, 1.0))
        if store.blobs.root.exists():
            check(store)
    await pulled(Pulls(store, Access(), pace=QUICK), asked(registry))
    check(store)


@pytest.mark.req("LIB-11")
async def test_no_verified_part_is_fetched_twice_after_a_kill(
    registry: Registry, pulls: Pulls, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "SMALL_PART", PART)
    registry.model("zoo/tiny", WEIGHTS)
    registry.slow = 0.05
    await killed(store.root, registry.host, 0.6)
    journal = store.root / "downloads" / f"{digest_of(WEIGHTS).replace(':', '-')}.journal"
    num_verified = (journal.stat().st_size - 32) // 44 if journal.exists() else 0
    if not num_verified:
        pytest.skip("the machine was too slow, or too quick")
    registry.log.clear()
    await pulled(pulls, asked(registry))
    ranges = [each for _, path, each in registry.log if digest_of(WEIGHTS) in path]
    assert len(ranges) == -(-len(WEIGHTS) // PART) - num_verified
