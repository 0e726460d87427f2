"""A download from a registry that behaves, and from one that doesn't."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import shutil
import tracemalloc
from typing import Any

import pytest
from aiohttp import web

from serow.errors import NotAtRegistry, PullError, RegistryError, RegistryRefused, StoreError
from serow.library import parts
from serow.library.journal import Journal
from serow.library.pull import Pulls
from serow.registries.access import Access
from serow.store.name import Name
from serow.store.store import Store

from .conftest import QUICK, WEIGHTS_DATA, Registry, asked, digest_of, names, pulled

pytestmark = pytest.mark.usefixtures("small_parts")


@pytest.mark.req("LIB-09", "LIB-10")
async def test_a_connection_that_is_cut_again_and_again_costs_hardly_more_bytes(registry: Registry, pulls: Pulls) -> None:
    registry.model("zoo/tiny", WEIGHTS_DATA)
    registry.cut = 200_000
    records = await pulled(pulls, asked(registry))
    told = [record.get("completed", 0) for record in records if record.get("total") == len(WEIGHTS_DATA)]
    assert told == sorted(told) and told[-1] == len(WEIGHTS_DATA)
    assert registry.sent <= 1.1 * len(WEIGHTS_DATA)


@pytest.mark.req("LIB-09")
async def test_parts_are_asked_for_by_range_and_never_twice(registry: Registry, pulls: Pulls) -> None:
    registry.model("zoo/tiny", WEIGHTS_DATA)
    await pulled(pulls, asked(registry))
    ranges = [each for _, path, each in registry.log if digest_of(WEIGHTS_DATA) in path]
    assert sorted(ranges)[:2] == ["bytes=0-1048575", "bytes=1048576-2097151"] and len(ranges) == len(set(ranges)) == 5


@pytest.mark.req("LIB-09")
async def test_a_registry_that_minds_no_ranges_sends_one_stream(registry: Registry, pulls: Pulls, store: Store) -> None:
    registry.model("zoo/tiny", WEIGHTS_DATA)
    registry.trick = lambda request, data: web.Response(body=data) if data else None
    await pulled(pulls, asked(registry))
    assert store.blobs.path(digest_of(WEIGHTS_DATA)).read_bytes() == WEIGHTS_DATA


def answer(status: int, headers: dict[str, str], body: bytes) -> Any:
    return lambda request, data: web.Response(status=status, headers=headers, body=body) if data else None


@pytest.mark.req("LIB-09", "LIB-10", "LIB-19")
@pytest.mark.parametrize(
    ("trick", "kind", "words"),
    [
        (answer(206, {"Content-Range": "bytes 5-10/9"}, b"x" * 6), RegistryError, "a blob of 9 bytes where the manifest says"),
        (answer(206, {"Content-Range": "bytes 5-10/*"}, b"x" * 6), RegistryError, "another range"),
        (answer(416, {}, b""), RegistryError, "unexpected status code 416"),
        (answer(200, {"Content-Encoding": "gzip"}, b"x"), RegistryError, "compresses"),
        (answer(500, {}, b"page"), RegistryError, "^max retries exceeded: unexpected status code 500"),
        (
            answer(403, {}, b'{"errors":[{"message":"no \\u001b[2J"}]}'),
            RegistryRefused,
            r"^unexpected status code 403: no  \[2J",
        ),
        (answer(404, {}, b""), NotAtRegistry, "^file does not exist"),
    ],
)
async def test_an_error_is_told_in_words_and_its_body_is_never_written(
    registry: Registry, pulls: Pulls, store: Store, trick: Any, kind: type[Exception], words: str
) -> None:
    registry.model("zoo/tiny", WEIGHTS_DATA)
    registry.trick = trick
    with pytest.raises(kind, match=words):
        await pulled(pulls, asked(registry))
    assert names(store.blobs.root) == []
    assert not store.has(Name.parse(f"{registry.host}/zoo/tiny"))


@pytest.mark.req("LIB-11")
async def test_ten_thousand_parts_are_read_again_in_constant_memory(
    registry: Registry, pulls: Pulls, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, count = 2048, 10_000
    monkeypatch.setattr(parts, "SMALL_PART", size)
    weights = random.Random(5).randbytes(size * count)
    registry.model("zoo/tiny", weights)
    path = store.root / "downloads" / digest_of(weights).replace(":", "-")
    path.parent.mkdir(parents=True)
    path.write_bytes(weights[:-size] + bytes(size))
    kept = Journal(path.with_name(f"{path.name}.journal"), len(weights), size)
    kept.open()
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for number in range(count - 1):
        kept.add(number, hashlib.sha256(weights[number * size : (number + 1) * size]).digest())
    kept.close()
    tracemalloc.start()
    await pulled(pulls, asked(registry))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 << 20
    asked_for = [each for _, target, each in registry.log if digest_of(weights) in target]
    assert asked_for == [f"bytes={size * (count - 1)}-{size * count - 1}"]


@pytest.mark.req("LIB-11")
async def test_nothing_is_kept_of_a_small_blob_that_failed(registry: Registry, pulls: Pulls, store: Store) -> None:
    registry.model("zoo/tiny", b"x" * 1000)
    registry.trick = answer(404, {}, b"")
    with pytest.raises(NotAtRegistry):
        await pulled(pulls, asked(registry))
    assert names(store.root / "downloads") == []


@pytest.mark.req("LIB-10")
async def test_a_busy_registry_is_given_the_time_that_it_asks_for(registry: Registry, pulls: Pulls) -> None:
    registry.model("zoo/tiny", b"x" * 100)
    answers = iter([429, 503])

    def busy(request: web.Request, data: bytes) -> web.Response | None:
        status = next(answers, None) if data else None
        return web.Response(status=status, headers={"Retry-After": "1"}) if status else None

    registry.trick = busy
    records = await pulled(pulls, asked(registry))
    assert any(record["status"] == f"waiting 1 s as {registry.host} asks" for record in records)


@pytest.mark.req("LIB-10", "LIB-14")
async def test_a_link_that_has_ended_is_asked_for_anew(registry: Registry, pulls: Pulls, store: Store) -> None:
    registry.model("zoo/tiny", WEIGHTS_DATA)
    links = iter(range(100))

    def redirected(request: web.Request, data: bytes) -> web.Response | None:
        if not data or "link" in request.query:
            expired = data and request.query.get("link") == "0"
            return web.Response(status=403, body=b"<html>expired</html>" * 1000) if expired else None
        return web.Response(status=307, headers={"Location": f"{request.path}?link={next(links)}"})

    registry.trick = redirected
    await pulled(pulls, asked(registry))
    assert store.blobs.path(digest_of(WEIGHTS_DATA)).read_bytes() == WEIGHTS_DATA


@pytest.mark.req("LIB-11")
async def test_a_download_goes_on_after_an_end_and_no_verified_byte_is_fetched_twice(
    registry: Registry, pulls: Pulls, store: Store
) -> None:
    registry.model("zoo/tiny", WEIGHTS_DATA)
    digest = digest_of(WEIGHTS_DATA)
    registry.trick = lambda request, data: (
        web.Response(status=404) if data == WEIGHTS_DATA and "3145728-" in request.headers.get("Range", "") else None
    )
    with pytest.raises(NotAtRegistry):
        await pulled(Pulls(store, Access(), 1, pace=QUICK), asked(registry))
    path = store.root / "downloads" / digest.replace(":", "-")
    assert path.stat().st_size == len(WEIGHTS_DATA)
    with path.open("r+b") as file:  # a bit that fell over: the journal's sum does not fit any more
        file.seek(1 << 20)
        file.write(b"\x00" * 10)
    registry.trick, registry.sent = None, 0
    registry.log.clear()
    await pulled(pulls, asked(registry))
    asked_for = sorted(each for _, target, each in registry.log if digest in target)
    assert asked_for == ["bytes=1048576-2097151", "bytes=3145728-4194303", "bytes=4194304-4999999"]
    assert store.blobs.path(digest).read_bytes() == WEIGHTS_DATA


@pytest.mark.req("LIB-12")
async def test_a_wrong_digest_is_fetched_once_more_and_then_dropped(registry: Registry, pulls: Pulls, store: Store) -> None:
    body = registry.model("zoo/tiny", WEIGHTS_DATA)
    digest = json.loads(body)["layers"][0]["digest"]
    registry.blobs[digest] = WEIGHTS_DATA[:-1] + b"?"
    with pytest.raises(PullError, match=f"^digest mismatch, file must be downloaded again: want {digest}, got sha256:"):
        await pulled(pulls, asked(registry))
    assert names(store.root / "downloads") == [] and digest.replace(":", "-") not in names(store.blobs.root)
    assert registry.sent <= 2.2 * len(WEIGHTS_DATA)


@pytest.mark.req("LIB-12")
async def test_a_part_that_was_wrong_once_is_mended(registry: Registry, pulls: Pulls, store: Store) -> None:
    registry.model("zoo/tiny", WEIGHTS_DATA)
    wrong = iter([True])

    def once(request: web.Request, data: bytes) -> web.Response | None:
        if data == WEIGHTS_DATA and "bytes=0-" in request.headers["Range"] and next(wrong, False):
            headers = {"Content-Range": f"bytes 0-1048575/{len(data)}"}
            return web.Response(status=206, body=b"?" * (1 << 20), headers=headers)
        return None

    registry.trick = once
    await pulled(pulls, asked(registry))
    assert store.blobs.path(digest_of(WEIGHTS_DATA)).read_bytes() == WEIGHTS_DATA


@pytest.mark.req("LIB-12")
async def test_a_blob_of_another_size_is_fetched_again(registry: Registry, pulls: Pulls, store: Store) -> None:
    registry.model("zoo/tiny", WEIGHTS_DATA)
    path = store.blobs.path(digest_of(WEIGHTS_DATA))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"short")
    await pulled(pulls, asked(registry))
    assert path.read_bytes() == WEIGHTS_DATA


@pytest.mark.req("LIB-13")
async def test_a_disk_that_is_too_small_is_told_before_the_first_byte(
    registry: Registry, pulls: Pulls, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.model("zoo/tiny", WEIGHTS_DATA)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(100 << 30, 0, 4_000_000))
    with pytest.raises(StoreError, match=r"^not enough disk space: \S+ needs 5.0 MB, 4 MB are free in /"):
        await pulled(pulls, asked(registry))
    assert registry.sent == 0


class _Usage:
    def __init__(self, total: int, used: int, free: int) -> None:
        self.total, self.used, self.free = total, used, free


def _drip(size: int, pause: float) -> Any:
    """A blob that comes byte by byte, whatever range is asked for."""

    class Dripping(web.StreamResponse):
        async def prepare(self, request: web.BaseRequest) -> Any:
            writer = await super().prepare(request)
            with contextlib.suppress(ConnectionError):
                for _ in range(size):
                    await self.write(b"x")
                    await asyncio.sleep(pause)
            return writer

    return Dripping()


@pytest.mark.req("LIB-10")
@pytest.mark.parametrize("minds_ranges", [True, False], ids=["parts", "one stream"])
async def test_a_lone_blob_that_drips_is_asked_for_again_and_given_up(
    registry: Registry, pulls: Pulls, store: Store, monkeypatch: pytest.MonkeyPatch, minds_ranges: bool
) -> None:
    data = WEIGHTS_DATA[: (1 << 20) + 1] if minds_ranges else WEIGHTS_DATA
    registry.model("zoo/tiny", data)
    asked_for: list[str] = []

    def drip(request: web.Request, blob: bytes) -> web.StreamResponse | None:
        if blob != data:
            return None
        asked_for.append(request.headers["Range"])
        first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
        response = _drip(int(last) - int(first) + 1 if minds_ranges else len(blob), 0.01)
        if minds_ranges:
            response.set_status(206)
            response.headers["Content-Range"] = f"bytes {first}-{last}/{len(blob)}"
            response.content_length = int(last) - int(first) + 1
        else:
            response.content_length = len(blob)
        return response  # type: ignore[no-any-return]

    registry.trick = drip
    with pytest.raises(RegistryError, match=r"^max retries exceeded: too slow$"):
        await pulled(pulls, asked(registry))
    assert 4 <= len(asked_for) <= 12
    assert store.list() == []
