"""Blobs that a process of its own makes of others: one that can be ended, and leaves nothing then.

The process writes to `downloads/` of the store; what it has made is hashed, read back, and becomes a blob like any other.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path

from serow.errors import EngineError, ModelFileError, StoreError
from serow.library.progress import TICK, Record
from serow.store import text_folder
from serow.store.blobs import disk_errors
from serow.store.create import Draft
from serow.store.manifest import WEIGHTS
from serow.store.store import Store
from serow.store.weights import describe
from serow.system.disk import open_partial
from serow.system.limits import clean_environment
from serow.system.work import in_thread

_LINE = 64 << 10  # bytes of a line that the process may say


async def quantize(store: Store, draft: Draft, media_type: str, wanted: str, made: list[str]) -> AsyncGenerator[Record, None]:
    """Give a model in the making quantized weights, or a quantized draft; yields progress.

    `made` gets the digest of the new blob, which the caller holds. Raises EngineError for what the quantizer says, StoreError.
    """
    layer = draft.only(media_type)
    what = "model" if media_type == WEIGHTS else "draft"
    record = {"status": f"quantizing {draft.file_type(layer)} {what} to {wanted}", "digest": layer.digest, "total": layer.size}
    making = Making(store, "quantizer", made, wanted)
    async with aclosing(making.run(str(store.blobs.path(layer.digest)), Making.TARGET, wanted)) as steps:
        async for completed in steps:
            yield {**record, "completed": min(completed, layer.size)}
    yield {**record, "completed": layer.size}
    draft.replace([layer], making.digest, store.blobs.size(making.digest))


async def merge(store: Store, draft: Draft, made: list[str]) -> AsyncGenerator[Record, None]:
    """Give a model in the making one file for its parts; yields progress. `made` as for `quantize`."""
    parts = draft.parts
    total = sum(part.size for part in parts)
    record = {"status": f"merging {len(parts)} parts", "digest": parts[0].digest, "total": total}
    making = Making(store, "merger", made)
    paths = [str(store.blobs.path(part.digest)) for part in parts]
    async with aclosing(making.run(Making.TARGET, *paths)) as steps:
        async for completed in steps:
            yield {**record, "completed": min(completed, total)}
    yield {**record, "completed": total}
    draft.replace(parts, making.digest, store.blobs.size(making.digest))


async def convert(store: Store, draft: Draft, made: list[str]) -> AsyncGenerator[Record, None]:
    """Give a model in the making the GGUF of its folder; yields progress. `made` as for `quantize`."""
    digests = {path: digest for path, digest in draft.conversion.items() if path.endswith(text_folder.WEIGHTS)}
    total = sum(map(store.blobs.size, digests.values()))
    record = {"status": "converting model", "digest": next(iter(digests.values())), "total": total}
    making = Making(store, "converter", made)
    args = [each for path, digest in draft.conversion.items() for each in (path, str(store.blobs.path(digest)))]
    async with aclosing(making.run(Making.TARGET, *args)) as steps:
        async for completed in steps:
            yield {**record, "completed": min(completed, total)}
    yield {**record, "completed": total}
    draft.add_weights(making.digest)


class Making:
    """A new blob: `run` makes it, afterwards `digest` says which it is."""

    TARGET = "<target>"  # in the arguments: the file that is written

    def __init__(self, store: Store, program: str, made: list[str], wanted: str = "") -> None:
        self._store = store
        self._program = program
        self._made = made
        self._wanted = wanted
        self.digest = ""

    async def run(self, *args: str) -> AsyncGenerator[int, None]:
        """Make it; yields how many bytes are done. Raises ModelFileError, EngineError, StoreError."""
        folder = self._store.root / "downloads"
        with disk_errors():
            folder.mkdir(parents=True, exist_ok=True)
            handle, path = open_partial(folder)
            os.close(handle)
        try:
            given = [str(path) if arg == self.TARGET else arg for arg in args]
            async with aclosing(_run(self._program, given)) as steps:
                async for completed in steps:
                    yield completed
            found = (await in_thread(describe, path)).file_type
            if self._wanted not in ("", found):
                raise EngineError(f"the {self._program} has made {found} of it")
            self.digest = await in_thread(self._store.blobs.move_in, path)
            self._made.append(self.digest)
            self._store.hold([self.digest])
        finally:
            await in_thread(_drop, path)


def _drop(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


async def _run(program: str, args: list[str]) -> AsyncGenerator[int, None]:
    """Run a program to its end; yields how many bytes are done."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", f"{__package__}.{program}", *args),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=_LINE,
        env=clean_environment(),
    )
    assert process.stdout is not None
    said, latest = "", -TICK
    try:
        while line := (await process.stdout.readline()).decode("utf-8", "replace").strip():
            kind, _, rest = line.partition(" ")
            now = asyncio.get_running_loop().time()
            if kind == "done" and rest.isdigit() and now - latest >= TICK:
                latest = now
                yield int(rest)
            elif kind in ("error", "disk"):
                said = line
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if said.startswith("disk "):
        raise StoreError(f"the model store failed: {said[5:]}")
    if process.returncode or said:
        raise ModelFileError(said.removeprefix("error ")) if said else EngineError(f"the {program} has died")
