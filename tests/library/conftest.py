"""A registry on the loopback that tests can tell how to behave, and a library that pulls from it."""

import asyncio
import hashlib
import json
import random
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from serow.library import parts
from serow.library.library import Library
from serow.library.pull import Pulls
from serow.library.transfer import Pace
from serow.registries.access import Access
from serow.registries.asked import Asked
from serow.store.manifest import CONFIG, MANIFEST, TEMPLATE, WEIGHTS
from serow.store.name import Name
from serow.store.store import Store

WEIGHTS_DATA = random.Random(1).randbytes(5_000_000)
QUICK = Pace(first=0.01, longest=0.05, tries=4, window=0.5)
Record = dict[str, Any]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


Trick = Callable[[web.Request, bytes], "web.StreamResponse | None"]


@dataclass
class Registry:
    """What it has and how it misbehaves. `cut`: after how many bytes each answer breaks off; `log`: what it was asked."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes, dict[str, str]]] = field(default_factory=dict)  # kind, bytes, headers, by name:tag
    cut: int = 0
    trick: Trick | None = None
    uploads: dict[str, bytearray] = field(default_factory=dict)
    log: list[tuple[str, str, str]] = field(default_factory=list)  # method, path and query, Range
    sent: int = 0  # bytes of blobs
    slow: float = 0.0  # seconds before each blob
    host: str = ""

    def add(self, data: bytes) -> str:
        self.blobs[digest_of(data)] = data
        return digest_of(data)

    def model(self, name: str, weights: bytes, **config: Any) -> bytes:
        """A model of one file and a template; returns its manifest."""
        data = json.dumps({"model_format": "gguf", "model_family": "zoo", "zoo_unknown": {"kept": True}, **config}).encode()
        layers = [
            {"mediaType": WEIGHTS, "digest": self.add(weights), "size": len(weights)},
            {"mediaType": TEMPLATE, "digest": self.add(b"{{ .Prompt }}"), "size": 13},
        ]
        top = {"mediaType": CONFIG, "digest": self.add(data), "size": len(data)}
        body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": top, "layers": layers, "zoo": 1}, indent=3)
        self.manifests[f"{name}:latest"] = MANIFEST, body.encode(), {}
        return body.encode()

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        self.note(request)
        if self.trick and (answer := self.trick(request, b"")):
            return answer
        found = self.manifests.get(f"{request.match_info['name']}:{request.match_info['tag']}")
        if found is None:
            raise web.HTTPNotFound
        return web.Response(body=found[1], headers={"Content-Type": found[0], **found[2]})

    async def blob(self, request: web.Request) -> web.StreamResponse:
        self.note(request)
        data = self.blobs.get(request.match_info["digest"])
        if data is None:
            raise web.HTTPNotFound
        if request.method == "HEAD":
            return web.Response(body=data)
        if self.trick and (answer := self.trick(request, data)):
            return answer
        await asyncio.sleep(self.slow)
        return await self.serve(request, data)

    async def serve(self, request: web.Request, data: bytes) -> web.StreamResponse:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        first, last = (int(match[1]), int(match[2])) if match else (0, len(data) - 1)
        response = web.StreamResponse(status=206 if match else 200)
        if match:
            response.headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        part = data[first : last + 1]
        response.content_length = len(part)
        await response.prepare(request)
        shown = part[: self.cut] if self.cut and len(part) > self.cut else part
        for at in range(0, len(shown), 1 << 16):
            await response.write(shown[at : at + (1 << 16)])
            self.sent += len(shown[at : at + (1 << 16)])
        if len(shown) < len(part):
            assert request.transport is not None
            request.transport.close()
        return response

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """An upload begins."""
        number = str(len(self.uploads))
        self.uploads[number] = bytearray()
        return web.Response(status=202, headers={"Location": f"/v2/{request.match_info['name']}/blobs/uploads/{number}"})

    async def go_on(self, request: web.Request) -> web.StreamResponse:
        """A piece of an upload, or with a digest its end."""
        data = self.uploads[request.match_info["number"]]
        data += await request.read()
        if request.method == "PATCH":
            return web.Response(status=202, headers={"Location": request.path, "Range": f"0-{len(data) - 1}"})
        if request.query["digest"] != digest_of(bytes(data)):
            raise web.HTTPBadRequest
        self.add(bytes(data))
        return web.Response(status=201)

    async def put_manifest(self, request: web.Request) -> web.StreamResponse:
        """A manifest, whose blobs have to be here."""
        data = await request.read()
        found = json.loads(data)
        if not all(layer["digest"] in self.blobs for layer in (*found["layers"], found["config"])):
            return web.json_response({"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]}, status=400)
        self.manifests[f"{request.match_info['name']}:{request.match_info['tag']}"] = MANIFEST, data, {}
        return web.Response(status=201)

    def note(self, request: web.Request) -> None:
        self.log.append((request.method, request.path_qs, request.headers.get("Range", "")))


async def _root(_: web.Request) -> web.StreamResponse:
    return web.json_response({})


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[Registry]:
    """A registry that behaves until it is told otherwise."""
    made = Registry()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/v2/", _root)
    app.router.add_get("/v2/{name:.+}/manifests/{tag}", made.manifest)
    app.router.add_get("/v2/{name:.+}/blobs/{digest}", made.blob)
    app.router.add_post("/v2/{name:.+}/blobs/uploads/", made.begin)
    for method in ("PATCH", "PUT"):
        app.router.add_route(method, "/v2/{name:.+}/blobs/uploads/{number}", made.go_on)
    app.router.add_put("/v2/{name:.+}/manifests/{tag}", made.put_manifest)
    async with TestServer(app, host="127.0.0.1") as server:
        made.host = f"127.0.0.1:{server.port}"
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "models")


@pytest.fixture
def pulls(store: Store) -> Pulls:
    """Pulls into it that don't wait long."""
    return Pulls(store, Access(), pace=QUICK)


@pytest.fixture
def library(store: Store) -> Library:
    """The library of the store."""
    return Library(store)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of some megabytes comes in several parts."""
    monkeypatch.setattr(parts, "SMALL_PART", 1 << 20)


def names(root: Path) -> list[str]:
    """What a directory holds, if it is there."""
    return sorted(path.name for path in root.iterdir()) if root.exists() else []


def asked(registry: Registry, name: str = "zoo/tiny", **options: Any) -> Asked:
    """A name at the registry."""
    return Asked(Name.parse(f"{registry.host}/{name}"), **{"insecure": True, "is_local": True, **options})


async def pulled(pulls: Pulls, wanted: Asked) -> list[Record]:
    """All records of a pull."""
    async with asyncio.timeout(60):
        return [record async for record in pulls.pull(wanted)]
