"""Hugging Face's own API, as its documents have it: refs, trees, files at a commit."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from serow.errors import NotAtRegistry, RegistryError, RegistryRefused
from serow.library.pull import Pulls
from serow.registries import caches
from serow.registries.access import Access
from serow.registries.asked import Asked
from serow.registries.base import Found
from serow.registries.huggingface import File, choose, choose_projector
from serow.registries.translation import translated
from serow.store.manifest import MANIFEST, PROJECTOR, WEIGHTS, Layer, decode_manifest
from serow.store.name import Name
from serow.store.store import Store
from tests.store.files import MODEL, gguf_file

from .conftest import QUICK, Record, digest_of

COMMIT = "0" * 39 + "1"


def file(path: str, size: int = 1) -> File:
    return File(path, size, digest_of(path.encode()))


@dataclass
class Hub:
    """What a repository holds, and what /v2/ says of it."""

    files: dict[str, bytes] = field(default_factory=dict)
    refusal: tuple[int, str] = (400, "The specified repository contains sharded GGUF. Ollama does not support this yet.")
    gate: int = 0
    large: int = 100  # bytes from which on a file is in LFS
    page: int = 100  # files of a page
    url: str = ""

    async def v2(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": self.refusal[1]}, status=self.refusal[0])

    async def refs(self, request: web.Request) -> web.StreamResponse:
        if self.gate:
            return web.json_response({"error": "Access to model o/r is restricted"}, status=self.gate)
        branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}
        return web.json_response({"tags": [], "branches": [branch], "converts": []})

    async def info(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"id": "o/r", "cardData": {"license": "mit"}, "gguf": {"architecture": "zoo", "total": 16}})

    async def tree(self, request: web.Request) -> web.StreamResponse:
        assert request.match_info["commit"] == COMMIT and request.query["recursive"] == "true"
        at = int(request.query.get("cursor", "0"))
        entries = [{"type": "directory", "oid": "1" * 40, "size": 0, "path": "sub"}, *map(self.entry, self.files)]
        headers = {}
        if at + self.page < len(entries):
            headers["Link"] = f'<{self.url}{request.path}?recursive=true&cursor={at + self.page}>; rel="next"'
        return web.json_response(entries[at : at + self.page], headers=headers)

    def entry(self, path: str) -> dict[str, Any]:
        data = self.files[path]
        entry: dict[str, Any] = {"type": "file", "oid": "2" * 40, "size": len(data), "path": path}
        if len(data) >= self.large:
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return entry

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        data = self.files[request.match_info["path"]]
        span = request.http_range
        if "Range" not in request.headers:
            return web.Response(body=data)
        part = data[span]
        start = span.start or 0
        headers = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(data)}"}
        return web.Response(status=206, body=part, headers=headers)


@pytest_asyncio.fixture
async def hub() -> AsyncIterator[Hub]:
    made = Hub()
    app = web.Application()
    app.router.add_get("/v2/{rest:.*}", made.v2)
    app.router.add_get("/api/models/o/r/refs", made.refs)
    app.router.add_get("/api/models/o/r/tree/{commit}", made.tree)
    app.router.add_get("/api/models/o/r", made.info)
    app.router.add_get("/o/r/resolve/{commit}/{path:.+}", made.resolve)
    async with TestServer(app, host="127.0.0.1") as server:
        made.url = f"http://127.0.0.1:{server.port}"
        yield made


async def pulled(hub: Hub, store: Store, name: str, **environ: str) -> list[Record]:
    access = Access(mirrors={"hf.co": hub.url}, environ=environ, allowed=("*",))
    pulls = Pulls(store, access, pace=QUICK)
    async with asyncio.timeout(30):
        return [record async for record in pulls.pull(Asked(Name.parse(name), is_local=True))]


@pytest.mark.req("LIB-24", "LIB-25")
async def test_a_model_in_several_files_comes_by_the_hubs_own_api(hub: Hub, store: Store) -> None:
    one, two = gguf_file([*MODEL.items(), ("split.count", 2)]), gguf_file([("split.no", 1), ("split.count", 2)], tensors=[])
    hub.files = {
        "README.md": b"x",
        "Q8_0/zoo-Q8_0-00001-of-00002.gguf": one,
        "Q8_0/zoo-Q8_0-00002-of-00002.gguf": two + b"\0" * 200,
        "mmproj-F16.gguf": b"eye" * 100,
        "template": b"{{ .Prompt }}",
        "imatrix-Q8_0.gguf": b"not this one" * 20,
    }
    hub.page = 3
    records = await pulled(hub, store, "hf.co/o/r:q8_0")
    name = Name.parse("hf.co/o/r:q8_0")
    manifest = store.manifest(name)
    assert [layer.name for layer in manifest.all(WEIGHTS)] == ["zoo-Q8_0-00001-of-00002.gguf", "zoo-Q8_0-00002-of-00002.gguf"]
    assert len(manifest.all(PROJECTOR)) == 1
    assert json.loads(store.blobs.read(manifest.config.digest, 1000))["license"] == "mit"
    assert any(record["status"].startswith("taking Q8_0/zoo") for record in records)


@pytest.mark.req("LIB-24")
async def test_their_words_are_told_when_their_api_has_nothing_either(hub: Hub, store: Store) -> None:
    hub.refusal = 400, "The specified tag is not available in the repository. Please use another tag or latest"
    words = r"^pull model manifest: 400: The specified tag is not available in the repository"
    with pytest.raises(RegistryError, match=words):
        await pulled(hub, store, "hf.co/o/r:Q9")


@pytest.mark.req("LIB-24")
async def test_a_gated_model_says_what_to_do(hub: Hub, store: Store) -> None:
    hub.refusal, hub.gate = (404, "x"), 403
    with pytest.raises((RegistryRefused, NotAtRegistry, RegistryError)):
        await pulled(hub, store, "hf.co/o/r")


@pytest.mark.req("LIB-25")
@pytest.mark.parametrize(
    ("tag", "paths"),
    [
        ("latest", ["a-Q4_K_M.gguf"]),
        ("q8_0", ["b-q8_0-00001-of-00002.gguf", "b-q8_0-00002-of-00002.gguf"]),
        ("UD-Q4_K_XL", ["UD/a-UD-Q4_K_XL.gguf"]),
        ("a-Q4_K_M.gguf", ["a-Q4_K_M.gguf"]),
        ("IQ4_XS", []),
    ],
)
def test_a_tag_is_a_quant_or_a_file(tag: str, paths: list[str]) -> None:
    names = ["mmproj-Q4_K_M.gguf", "imatrix_Q8_0.gguf", "sub/mtp-Q4_K_M.gguf", "a-Q4_K_M.gguf", "UD/a-UD-Q4_K_XL.gguf"]
    names += ["b-q8_0-00001-of-00002.gguf", "b-q8_0-00002-of-00002.gguf", "notes.txt"]
    assert [each.path for each in choose([file(name) for name in names], tag)] == paths


@pytest.mark.req("LIB-25")
def test_a_set_that_is_not_whole_is_refused() -> None:
    with pytest.raises(RegistryError, match="1 of its 2 parts"):
        choose([file("b-q8_0-00001-of-00002.gguf")], "q8_0")


@pytest.mark.req("LIB-25")
def test_the_eye_is_the_nearest_one() -> None:
    files = [file(path) for path in ("mmproj-F32.gguf", "mmproj-Q8_0.gguf", "sub/mmproj-F16.gguf", "other/mmproj-Q8_0.gguf")]
    assert choose_projector(files, file("a-Q8_0.gguf")) == file("mmproj-Q8_0.gguf")
    assert choose_projector(files, file("sub/a-Q8_0.gguf")) == file("sub/mmproj-F16.gguf")
    assert choose_projector([file("a.gguf")], file("a.gguf")) is None


@pytest.mark.req("LIB-26")
async def test_a_file_of_another_programs_cache_is_linked_and_not_fetched(hub: Hub, store: Store, tmp_path: Path) -> None:
    weights = gguf_file(data=bytes(2 << 20))
    hub.files = {"a-Q4_K_M.gguf": weights}
    cache = tmp_path / "cache" / "models--o--r" / "blobs"
    cache.mkdir(parents=True)
    path = cache / hashlib.sha256(weights).hexdigest()
    path.write_bytes(weights)
    await pulled(hub, store, "hf.co/o/r", HF_HUB_CACHE=str(tmp_path / "cache"))
    blob = store.blobs.path(digest_of(weights))
    assert blob.stat().st_ino == path.stat().st_ino and path.read_bytes() == weights


@pytest.mark.req("LIB-26")
def test_a_file_of_that_name_with_other_bytes_is_none(tmp_path: Path) -> None:
    data = bytes(2 << 20)
    layer = Layer(media_type=WEIGHTS, digest=digest_of(data), size=len(data))
    folder = tmp_path / ".lmstudio" / "models" / "o" / "r"
    folder.mkdir(parents=True)
    (folder / "a.gguf").write_bytes(b"\1" + data[1:])
    assert caches.find(layer, {"HOME": str(tmp_path)}, tmp_path / "own") is None
    (folder / "b.gguf").write_bytes(data)
    assert caches.find(layer, {"HOME": str(tmp_path)}, tmp_path / "own") == folder / "b.gguf"


def foreign(*kinds: str) -> Found:
    layers = [{"mediaType": kind, "digest": digest_of(kind.encode()), "size": 5} for kind in kinds]
    top = {"mediaType": "application/vnd.docker.ai.model.config.v0.1+json", "digest": digest_of(b"c"), "size": 1}
    data = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": top, "layers": layers}).encode()
    return Found(data, decode_manifest(data))


@pytest.mark.req("LIB-27")
def test_a_model_of_docker_gets_the_media_types_of_ollama() -> None:
    kinds = ("application/vnd.docker.ai.gguf.v3", "application/vnd.docker.ai.license", "application/vnd.docker.ai.mmproj")
    found = translated(foreign(*kinds))
    assert [layer.media_type.rpartition(".")[2] for layer in found.manifest.layers] == ["model", "license", "projector"]
    assert found.manifest.layers[0].digest == digest_of(kinds[0].encode())


@pytest.mark.req("LIB-27")
def test_a_model_without_a_gguf_is_refused_in_words() -> None:
    with pytest.raises(RegistryError, match="no weights in GGUF format"):
        translated(foreign("application/vnd.docker.ai.license"))
