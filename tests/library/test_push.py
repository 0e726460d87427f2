"""Pushing to Docker's own registry, and to one that breaks off."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from serow.errors import ModelFileError, ModelNotFound, RegistryError, RegistryRefused, RequestError
from serow.library.pull import Pulls
from serow.library.push import Pushes
from serow.registries import upload
from serow.registries.access import Access
from serow.registries.asked import Asked
from serow.registries.credentials import Login
from serow.store.manifest import MANIFEST
from serow.store.name import Name
from serow.store.recipe import Recipe
from serow.store.store import Store
from tests.store.files import MODEL, gguf_file
from tests.support.registry import docker_registry, free_port

from .conftest import QUICK, Record, digest_of

WEIGHTS = gguf_file(MODEL.items(), data=random.Random(2).randbytes(5_000_000))


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("open"), free_port()) as host:
        yield host


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(upload, "_PIECE", 1 << 20)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))


def made(store: Store, name: str, **recipe: object) -> Name:
    digest, _ = store.blobs.put(WEIGHTS)
    given = Recipe(**{"files": {"a.gguf": digest}, **recipe})  # type: ignore[arg-type]
    for _ in store.create(Name.parse(name), given):
        pass
    return Name.parse(name)


async def pushed(store: Store, name: Name, pushes: Pushes | None = None, login: Login | None = None) -> list[Record]:
    wanted = Asked(name, insecure=True, is_local=True, login=login)
    async with asyncio.timeout(60):
        return [record async for record in (pushes or Pushes(store, Access(), 1, pace=QUICK)).push(wanted)]


@pytest.mark.req("LIB-21", "LIB-22", "LIB-23")
async def test_a_model_goes_through_a_real_registry_and_comes_back_the_same(docker: str, store: Store, tmp_path: Path) -> None:
    name = made(store, f"{docker}/zoo/made:v1", system="You count.")
    records = await pushed(store, name)
    statuses = [record["status"] for record in records]
    assert statuses[0] == "retrieving manifest" and statuses[-1] == "pushing manifest"
    assert all(status.startswith("pushing ") for status in statuses[1:-1])
    other = Store(tmp_path / "other")
    async with asyncio.timeout(60):
        wanted = Asked(name, insecure=True, is_local=True)
        _ = [record async for record in Pulls(other, Access(), pace=QUICK).pull(wanted)]
    assert other.manifest_data(name) == store.manifest_data(name)
    assert other.resolve(str(name)).digest == store.resolve(str(name)).digest
    assert sorted(path.name for path in other.blobs.root.iterdir()) == sorted(path.name for path in store.blobs.root.iterdir())


@pytest.mark.req("LIB-21", "LIB-22")
async def test_what_is_there_is_told_whole_and_not_sent_again(docker: str, store: Store) -> None:
    name = made(store, f"{docker}/zoo/again")
    await pushed(store, name)
    records = [record for record in await pushed(store, name) if "digest" in record]
    assert len(records) == 2 and all(record["completed"] == record["total"] for record in records)


@pytest.mark.req("LIB-22")
async def test_a_layer_of_another_repository_is_mounted(docker: str, store: Store) -> None:
    await pushed(store, made(store, f"{docker}/zoo/source"))
    name = made(store, f"{docker}/zoo/mounted", files=None, source=Name.parse(f"{docker}/zoo/source"), system="Mounted.")
    await pushed(store, name)
    async with httpx.AsyncClient() as client:
        blob = await client.head(f"http://{docker}/v2/zoo/mounted/blobs/{digest_of(WEIGHTS)}")
    assert blob.status_code == 200


@pytest.mark.req("LIB-21")
async def test_what_is_not_here_is_said_before_anything_is_sent(docker: str, store: Store) -> None:
    with pytest.raises(ModelNotFound, match="model 'none:latest' not found"):
        await pushed(store, Name.parse("none"))
    name = made(store, f"{docker}/zoo/broken")
    store.blobs.remove(digest_of(WEIGHTS))
    with pytest.raises(ModelFileError, match="is missing"):
        await pushed(store, name)


@pytest.mark.req("LIB-21")
async def test_upper_case_is_explained(docker: str, store: Store) -> None:
    with pytest.raises(RequestError, match=r"^registries know lower case only: serow cp Zoo/Made zoo/made$"):
        await pushed(store, made(store, f"{docker}/Zoo/Made"))


@pytest.mark.req("LIB-17", "LIB-23")
async def test_an_account_is_needed_and_taken(store: Store, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "auth", free_port(), auth=True) as host:
        name = made(store, f"{host}/zoo/made")
        with pytest.raises(RegistryRefused, match=f"^push access denied for {name}$"):
            await pushed(store, name)
        await pushed(store, name, login=Login("zoo", "pass"))
        async with httpx.AsyncClient(auth=("zoo", "pass"), headers={"Accept": MANIFEST}) as client:
            answer = await client.get(f"http://{host}/v2/zoo/made/manifests/latest")
        assert answer.content == store.manifest_data(name)


@dataclass
class Shaky:
    """A registry that takes blobs, and breaks off: `cuts` pieces after some bytes; it forgets `forgotten` uploads."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    part: bytes = b""
    cuts: int = 0
    forgotten: int = 0
    takes_patch: bool = True
    unknown: int = 0  # manifests that are answered with a blob that is missing
    received: int = 0
    host: str = ""

    async def blob(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=200 if request.match_info["digest"] in self.blobs else 404)

    async def begin(self, request: web.Request) -> web.StreamResponse:
        self.part = b""
        return web.Response(status=202, headers={"Location": "/v2/zoo/made/blobs/uploads/1?_state=a%2Fb"})

    async def patch(self, request: web.Request) -> web.StreamResponse:
        assert request.raw_path.endswith("?_state=a%2Fb") and request.headers["Content-Type"] == "application/octet-stream"
        if not self.takes_patch:
            await request.read()
            return web.Response(status=405)
        if self.forgotten:
            self.forgotten -= 1
            await request.read()
            return web.json_response({"errors": [{"code": "BLOB_UPLOAD_INVALID"}]}, status=404)
        first, _, last = request.headers["Content-Range"].partition("-")
        assert int(first) == len(self.part) and int(last) - int(first) + 1 == int(request.headers["Content-Length"])
        async for chunk in request.content.iter_chunked(1 << 16):
            self.part += chunk
            self.received += len(chunk)
            if self.cuts and len(self.part) % (1 << 20) > 500_000:
                self.cuts -= 1
                assert request.transport is not None
                request.transport.close()
                return web.Response()
        return web.Response(status=202, headers={"Location": f"http://{self.host}{request.raw_path}"})

    async def status(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=204, headers={"Range": f"0-{len(self.part) - 1}"})

    async def end(self, request: web.Request) -> web.StreamResponse:
        data = self.part + await request.read()
        assert digest_of(data) == request.query["digest"]
        self.blobs[digest_of(data)] = data
        return web.Response(status=201)

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.unknown:
            self.unknown -= 1
            del self.blobs[body["layers"][0]["digest"]]
            answer = {"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry"}]}
            return web.json_response(answer, status=400)
        assert {layer["digest"] for layer in (*body["layers"], body["config"])} <= set(self.blobs)
        return web.Response(status=201)


@pytest_asyncio.fixture
async def shaky() -> AsyncIterator[Shaky]:
    made = Shaky()
    app = web.Application(client_max_size=1 << 30)
    uploads = "/v2/zoo/made/blobs/uploads/"
    app.router.add_post(uploads, made.begin)
    app.router.add_patch(f"{uploads}1", made.patch)
    app.router.add_get(f"{uploads}1", made.status)
    app.router.add_put(f"{uploads}1", made.end)
    app.router.add_route("HEAD", "/v2/zoo/made/blobs/{digest}", made.blob)
    app.router.add_put("/v2/zoo/made/manifests/latest", made.manifest)
    async with TestServer(app, host="127.0.0.1") as server:
        made.host = f"127.0.0.1:{server.port}"
        yield made


@pytest.mark.req("LIB-22")
async def test_an_upload_goes_on_after_a_break(shaky: Shaky, store: Store) -> None:
    shaky.cuts = 3
    await pushed(store, made(store, f"{shaky.host}/zoo/made"))
    assert shaky.blobs[digest_of(WEIGHTS)] == WEIGHTS
    assert shaky.received < 1.5 * len(WEIGHTS)


@pytest.mark.req("LIB-22")
async def test_an_upload_that_the_registry_has_forgotten_is_begun_anew_three_times(shaky: Shaky, store: Store) -> None:
    shaky.forgotten = 3
    name = made(store, f"{shaky.host}/zoo/made")
    await pushed(store, name, Pushes(store, Access(), 1, pace=QUICK))
    shaky.blobs.clear()
    shaky.forgotten = 10
    with pytest.raises(RegistryError, match="BLOB_UPLOAD_INVALID"):
        await pushed(store, name, Pushes(store, Access(), 1, pace=QUICK))


@pytest.mark.req("LIB-22")
async def test_a_registry_that_takes_no_pieces_gets_the_whole(shaky: Shaky, store: Store) -> None:
    shaky.takes_patch = False
    await pushed(store, made(store, f"{shaky.host}/zoo/made"))
    assert shaky.blobs[digest_of(WEIGHTS)] == WEIGHTS


@pytest.mark.req("LIB-23")
async def test_a_blob_that_has_gone_meanwhile_is_sent_once_more(shaky: Shaky, store: Store) -> None:
    shaky.unknown = 1
    name = made(store, f"{shaky.host}/zoo/made")
    await pushed(store, name)
    assert set(shaky.blobs) == {each["digest"] for each in json.loads(store.manifest_data(name))["layers"]} | {
        json.loads(store.manifest_data(name))["config"]["digest"]
    }
    shaky.unknown = 2
    with pytest.raises(RegistryError, match="blob unknown"):
        await pushed(store, name)
