"""`verify`: every blob of a model, or of all, read again and compared with its digest (LIB-12).

A blob that is another than its name says is marked; the next pull of the model fetches it again and puts it in its place.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from serow.errors import ModelFileError
from serow.library.progress import TICK, Record
from serow.store.blobs import disk_errors
from serow.store.manifest import Layer
from serow.store.name import Name
from serow.store.store import Store
from serow.system.work import in_thread

_BUFFER = 4 << 20  # bytes


def mark_of(folder: Path, digest: str) -> Path:
    """The file that says that a blob is broken, in the folder of downloads."""
    return folder / f"{digest.replace(':', '-')}.broken"


async def verify(store: Store, names: list[Name], folder: Path) -> AsyncGenerator[Record, None]:
    """Read the blobs of models again; yields progress. Raises ModelFileError at the end, when some are broken."""
    seen: dict[str, bool] = {}
    broken: list[str] = []
    for name in names:
        manifest = await in_thread(store.manifest, name)
        for layer in (*manifest.layers, manifest.config):
            if layer.digest not in seen:
                async with aclosing(_verify(store, layer, folder, seen)) as records:
                    async for record in records:
                        yield record
        if not all(seen[layer.digest] for layer in (*manifest.layers, manifest.config)):
            broken.append(name.display_shortest)
            yield {"status": f"{name.display_shortest} is broken"}
    if broken:
        raise ModelFileError(f"broken: {', '.join(broken)}", hint=f"fetch again what is broken: serow pull {broken[0]}")


async def _verify(store: Store, layer: Layer, folder: Path, seen: dict[str, bool]) -> AsyncGenerator[Record, None]:
    status = f"verifying {layer.digest.removeprefix('sha256:')[:12]}"
    done = [0]
    work = asyncio.ensure_future(in_thread(_is_right, store, layer, done))
    try:
        while not (await asyncio.wait({work}, timeout=TICK))[0]:
            yield {"status": status, "digest": layer.digest, "total": layer.size, "completed": done[0]}
    finally:
        if not work.done():
            done[0] = -1  # the thread sees it and ends
        await asyncio.gather(work, return_exceptions=True)
    seen[layer.digest] = work.result()
    if not seen[layer.digest]:
        await in_thread(_mark, mark_of(folder, layer.digest))
    yield {"status": status, "digest": layer.digest, "total": layer.size, "completed": layer.size}


def _is_right(store: Store, layer: Layer, done: list[int]) -> bool:
    sha256 = hashlib.sha256()
    if not store.blobs.has(layer.digest):
        return False
    with disk_errors(), store.blobs.path(layer.digest).open("rb") as file:
        while done[0] >= 0 and (data := file.read(_BUFFER)):
            sha256.update(data)
            done[0] += len(data)
    return f"sha256:{sha256.hexdigest()}" == layer.digest


def _mark(path: Path) -> None:
    with disk_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
