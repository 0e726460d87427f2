"""`quantize`: the weights of a model packed in fewer bits, by llama.cpp's own quantizer, in a process that can be ended.

The process writes to `downloads/` of the store; what it has made is hashed, read back, and becomes a blob like any other.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from serow.errors import EngineError, ModelFileError, StoreError
from serow.library.progress import TICK, Record
from serow.store.blobs import disk_errors
from serow.store.create import Draft
from serow.store.manifest import WEIGHTS
from serow.store.store import Store
from serow.store.weights import describe
from serow.system.disk import open_partial
from serow.system.limits import clean_environment
from serow.system.work import in_thread

_PROGRAM = "serow.library.quantizer"
_LINE = 64 << 10  # bytes of a line that the process may say


async def quantize(store: Store, draft: Draft, media_type: str, wanted: str, made: list[str]) -> AsyncGenerator[Record, None]:
    """Give a model in the making quantized weights, or a quantized draft; yields progress.

    `made` gets the digest of the new blob, which the caller holds. Raises EngineError for what the quantizer says, StoreError.
    """
    layer = draft.only(media_type)
    what = "model" if media_type == WEIGHTS else "draft"
    record = {"status": f"quantizing {draft.file_type(layer)} {what} to {wanted}", "digest": layer.digest, "total": layer.size}
    folder = store.root / "downloads"
    with disk_errors():
        folder.mkdir(parents=True, exist_ok=True)
        handle, path = open_partial(folder)
        os.close(handle)
    try:
        async for completed in _run(store.blobs.path(layer.digest), path, wanted):
            yield {**record, "completed": completed}
        yield {**record, "completed": layer.size}
        if (found := (await in_thread(describe, path)).file_type) != wanted:
            raise EngineError(f"the quantizer has made {found} of it")
        digest = await in_thread(store.blobs.move_in, path)
        made.append(digest)
        store.hold([digest])
        draft.replace(layer, digest, store.blobs.size(digest))
    finally:
        await in_thread(_drop, path)


def _drop(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


async def _run(source: Path, target: Path, wanted: str) -> AsyncGenerator[int, None]:
    """Run the quantizer to its end; yields how many bytes of the source are done."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", _PROGRAM, str(source), str(target), wanted),
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
        raise ModelFileError(said.removeprefix("error ")) if said else EngineError("the quantizer has died")
