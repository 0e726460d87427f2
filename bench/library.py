"""The library against its bars: listing, pulling beside curl, resuming, cuts, many pulls at once; the registry is here, too.

usage: python -m bench.library [--size MB] [--models N] [list] [pull] [cut] [eight] [resume]      all of them when none is named

Each line says what was measured, the bar, and the load of the machine: times mean little on one that is busy.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from aiohttp import web

from serow.library import parts
from serow.library.journal import Journal
from serow.library.pull import Pulls
from serow.registries.access import Access
from serow.registries.asked import Asked
from serow.store.manifest import CONFIG, MANIFEST, SYSTEM, WEIGHTS
from serow.store.name import Name
from serow.store.store import Store

_CUT = 5_000_000  # bytes after which each answer breaks off
_NUM_PARTS = 10_000


@dataclass
class Registry:
    """One model of one file. `cut`: after how many bytes an answer breaks off; `sent`: bytes of the file."""

    path: Path
    cut: int = 0
    sent: int = 0
    host: str = ""
    digest: str = ""
    manifest: bytes = field(default=b"", repr=False)

    def describe(self) -> None:
        """Hash the file and write its manifest."""
        with self.path.open("rb") as file:
            self.digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        layer = {"mediaType": WEIGHTS, "digest": self.digest, "size": self.path.stat().st_size}
        top = {"mediaType": CONFIG, "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}", "size": 2}
        found = {"schemaVersion": 2, "mediaType": MANIFEST, "config": top, "layers": [layer]}
        self.manifest = json.dumps(found).encode()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Whatever is asked for."""
        if "/manifests/" in request.path:
            return web.Response(body=self.manifest, content_type=MANIFEST)
        if not request.path.endswith(self.digest):
            return web.Response(body=b"{}") if "/blobs/" in request.path else web.json_response({})
        return await self._cut(request) if self.cut else web.FileResponse(self.path)

    async def _cut(self, request: web.Request) -> web.StreamResponse:
        size = self.path.stat().st_size
        first, _, last = request.headers.get("Range", f"bytes=0-{size - 1}").removeprefix("bytes=").partition("-")
        length = int(last) - int(first) + 1
        response = web.StreamResponse(status=206, headers={"Content-Range": f"bytes {first}-{last}/{size}"})
        response.content_length = length
        await response.prepare(request)
        with self.path.open("rb") as file:
            file.seek(int(first))
            data = file.read(min(length, self.cut))
        await response.write(data)
        self.sent += len(data)
        if len(data) < length and request.transport is not None:
            request.transport.close()
        return response


def _asked(registry: Registry, name: str = "bench/model") -> Asked:
    return Asked(Name.parse(f"{registry.host}/{name}"), insecure=True, is_local=True)


async def _pulled(store: Store, registry: Registry, *names: str) -> float:
    """Seconds that pulls of one store took, side by side."""
    pulls, began = Pulls(store, Access()), time.perf_counter()

    async def one(name: str) -> None:
        async for _ in pulls.pull(_asked(registry, name)):
            pass

    await asyncio.gather(*map(one, names or ("bench/model",)))
    return time.perf_counter() - began


def _say(what: str, found: str, bar: str) -> None:
    print(f"{what:<34} {found:<40} bar {bar:<24} load {os.getloadavg()[0]:.1f}", flush=True)


async def pull(registry: Registry, folder: Path) -> None:
    """A pull beside curl and sha256sum of the same bytes."""
    ours = await _pulled(Store(folder / "pull"), registry)
    url, target = f"http://{registry.host}/v2/bench/model/blobs/{registry.digest}", folder / "curl"
    began = time.perf_counter()
    for argv in (("curl", "-sf", "-o", str(target), url), ("sha256sum", str(target))):
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.DEVNULL)
        if await process.wait():
            raise SystemExit(f"{argv[0]} has failed")
    theirs = time.perf_counter() - began
    _say("pull, of curl and sha256sum", f"{theirs / ours:.2f} ({ours:.1f} s, curl {theirs:.1f} s)", ">= 0.8")


async def cut(registry: Registry, folder: Path) -> None:
    """A pull whose connections break every 5 MB."""
    registry.cut, registry.sent = _CUT, 0
    seconds = await _pulled(Store(folder / "cut"), registry)
    share = registry.sent / registry.path.stat().st_size
    registry.cut = 0
    _say("cut every 5 MB, bytes", f"{share:.3f} times the file, {seconds:.1f} s", "<= 1.1")


async def eight(registry: Registry, folder: Path) -> None:
    """Eight pulls at once."""
    registry.cut, registry.sent = 1 << 40, 0
    await _pulled(Store(folder / "eight"), registry, *(f"bench/model{number}" for number in range(8)))
    share = registry.sent / registry.path.stat().st_size
    registry.cut = 0
    _say("eight pulls at once, bytes", f"{share:.3f} times the file", "1")


async def resume(registry: Registry, folder: Path) -> None:
    """A download that goes on with 10,000 parts done."""
    store, size = Store(folder / "resume"), registry.path.stat().st_size
    downloads, length = store.root / "downloads", size // (_NUM_PARTS + 1)
    downloads.mkdir(parents=True)
    path = downloads / registry.digest.replace(":", "-")
    shutil.copy(registry.path, path)
    journal = Journal(path.with_name(f"{path.name}.journal"), size, length)
    journal.open()  # without syncing: ten thousand times would be measured
    journal._sync = lambda: None  # type: ignore[method-assign]
    with path.open("rb") as file:
        for number in range(_NUM_PARTS):
            journal.add(number, hashlib.sha256(file.read(length)).digest())
    journal.close()
    registry.cut, registry.sent, parts.SMALL_PART = 1 << 40, 0, length
    process, peaks = psutil.Process(), [0]
    before = process.memory_info().rss

    async def watch() -> None:
        while True:
            peaks[0] = max(peaks[0], process.memory_info().rss - before)
            await asyncio.sleep(0.05)

    watching = asyncio.ensure_future(watch())
    seconds = await _pulled(store, registry)
    watching.cancel()
    registry.cut = 0
    found = f"{peaks[0] / 1e6:.1f} MB more, {registry.sent} bytes sent, {seconds:.1f} s"
    _say("resume with 10,000 parts done", found, "< 40 MB, the rest")


async def listing(registry: Registry, folder: Path, count: int) -> None:
    """The list of many models, in memory and of a fresh process's first look."""
    store = Store(folder / "list")
    digest = store.blobs.add(Path(__file__).parents[1] / "tests/models/zoo/lm/zoo-think.gguf")
    for number in range(count):  # straight into the store: to sync each of them would take minutes
        config, _ = store.blobs.put(json.dumps({"model_format": "gguf", "model_family": "qwen3"}).encode())
        text = f"Number {number}.".encode()
        system = f"sha256:{hashlib.sha256(text).hexdigest()}"
        store.blobs.target(system).write_bytes(text)
        layers = [
            {"mediaType": WEIGHTS, "digest": digest, "size": store.blobs.size(digest)},
            {"mediaType": SYSTEM, "digest": system, "size": len(text)},
        ]
        top = {"mediaType": CONFIG, "digest": config, "size": store.blobs.size(config)}
        path = store.index.first / Name.parse(f"m{number}").path
        path.parent.mkdir(parents=True)
        path.write_bytes(json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": top, "layers": layers}).encode())
    fresh = Store(folder / "list")
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        assert len(fresh.list()) == count
        seconds.append(time.perf_counter() - began)
    _say(f"list {count} models", f"{min(seconds[1:]) * 1000:.1f} ms, the first time {seconds[0] * 1000:.0f} ms", "< 50 ms")


async def measure(wanted: list[str], size: int, count: int) -> None:
    """Run what is wanted."""
    todo: dict[str, Callable[[Registry, Path], Awaitable[None]]] = {
        "list": lambda registry, folder: listing(registry, folder, count),
        "pull": pull,
        "cut": cut,
        "eight": eight,
        "resume": resume,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "file"
        with path.open("wb") as file:
            for _ in range(size):
                file.write(os.urandom(1_000_000))
        registry = Registry(path)
        registry.describe()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", registry.answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        registry.host = f"127.0.0.1:{runner.addresses[0][1]}"
        for each in wanted or todo:
            await todo[each](registry, folder)
        await runner.cleanup()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.library", description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=500, help="MB of the file")
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("what", nargs="*", choices=["list", "pull", "cut", "eight", "resume", []])
    given = parser.parse_args()
    asyncio.run(measure(given.what, given.size, given.models))


if __name__ == "__main__":
    main()
