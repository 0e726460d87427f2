"""Which manifest a name stands for, of several spellings and of several stores."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serow.errors import ModelNotFound, RequestError, SerowError
from serow.library.library import Library
from serow.settings import SettingError, Settings, load
from serow.store.name import Name
from serow.store.prune import prune
from serow.store.recipe import Recipe
from serow.store.store import Store

from .files import MODEL, gguf_file

NAME = Name.parse("Tiny")


def made(store: Store, name: str, system: str = "", data: bytes | None = None) -> str:
    """A model of one file; returns the file's digest."""
    digest, _ = store.blobs.put(gguf_file() if data is None else data)
    for _ in store.create(Name.parse(name), Recipe(files={"a.gguf": digest}, system=system)):
        pass
    return digest


def respelt(store: Store, name: str, seconds: float, system: str) -> Path:
    """A manifest in a folder of another case, as a copy from another machine has it, `seconds` old."""
    made(store, "made", system)
    target = store.index.first / "registry.ollama.ai" / "library" / name / "latest"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(store.index.find(Name.parse("made")), target)
    store.delete(Name.parse("made"))
    os.utime(target, (time.time() - seconds,) * 2)
    return target


def listed(store: Store) -> list[tuple[str, str]]:
    return sorted((model.name.display_shortest, model.system) for model in store.list())


@pytest.mark.req("LIB-01")
@pytest.mark.parametrize("ages", [(100, 200, 300), (300, 100, 200), (200, 300, 100), (100, 100, 100)])
def test_of_spellings_that_differ_in_case_every_way_takes_the_newest(store: Store, ages: tuple[float, ...]) -> None:
    spelt = ("TINY", "Tiny", "tiny")
    now = time.time()
    for name, age in zip(spelt, ages, strict=True):
        os.utime(respelt(store, name, age, name), (now - age,) * 2)
    newest = spelt[ages.index(min(ages))]
    for asked in (*spelt, "tInY"):
        assert store.resolve(asked).system == newest
        assert newest.encode() in store.blobs.read(store.manifest(Name.parse(asked)).layers[-1].digest, 99)
    assert listed(store) == [(f"{newest}:latest", newest)]
    assert {waste.what.split("/")[2] for waste in prune(store, 0.0, dry_run=True) if waste.kind == "double"} == {*spelt} - {
        newest
    }


@pytest.mark.req("LIB-01")
def test_a_spelling_that_has_become_newer_counts_at_once(store: Store) -> None:
    respelt(store, "Tiny", 100, "old")
    other = respelt(store, "tiny", 200, "new")
    assert store.resolve("tiny").system == "old"
    os.utime(other)
    assert store.resolve("tiny").system == "new"


@pytest.mark.req("LIB-01", "LIB-35")
def test_a_model_of_two_spellings_is_removed_and_replaced_as_one(store: Store) -> None:
    respelt(store, "Tiny", 100, "old")
    respelt(store, "tiny", 200, "older")
    made(store, "TINY", "new")
    assert listed(store) == [("Tiny:latest", "new")]
    store.delete(NAME)
    assert listed(store) == [] and not list(store.blobs.root.iterdir())


@pytest.mark.req("LIB-01")
@pytest.mark.parametrize("target", [".", "..", "registry.ollama.ai"])
def test_links_within_the_store_that_lead_back_into_it_are_no_way_round_and_round(store: Store, target: str) -> None:
    """Four links that lead up made millions of paths: a server that never answered, nor ended."""
    made(store, "tiny")
    for folder in (store.index.first, store.index.first / "registry.ollama.ai"):
        for number in range(8):
            (folder / f"again{number}").symlink_to(folder / target)
    assert {path.parent.name for path in store.index.all()} == {"tiny"}
    assert [name for name, _ in listed(store)].count("tiny:latest") == 1


def test_a_name_that_windows_wrote_is_found(store: Store) -> None:
    made(store, "127.0.0.1:5000/zoo/tiny")
    (store.index.first / "127.0.0.1:5000").rename(store.index.first / "127.0.0.1%3A5000")
    assert store.resolve("127.0.0.1:5000/zoo/tiny").name == Name.parse("127.0.0.1:5000/zoo/tiny")
    store.delete(Name.parse("127.0.0.1:5000/zoo/tiny"))
    assert listed(store) == []


@pytest.fixture
def shared(tmp_path: Path) -> Store:
    """A store on another disk."""
    return Store(tmp_path / "shared")


@pytest.fixture
def both(store: Store, shared: Store) -> Store:
    """A store that reads the other one, too."""
    return Store(store.root, further=[shared.root])


@pytest.mark.req("LIB-13")
def test_several_directories_are_read_from_one_setting() -> None:
    first, *further = (Path("/a"), Path("/b"), Path("/c"))
    settings = load({"SEROW_MODELS": os.pathsep.join(["/a", " /b", "", "/c", "/a"])})
    assert (settings.models, settings.further_models) == (first, tuple(further))
    with pytest.raises(SettingError):
        load({"SEROW_MODELS": os.pathsep})


@pytest.mark.req("LIB-13")
def test_a_model_of_a_further_store_is_used_and_the_first_one_counts_before_it(both: Store, shared: Store) -> None:
    made(shared, "tiny", "shared")
    made(shared, "other", "shared")
    assert both.resolve("TINY").system == "shared" and both.has(NAME)
    assert both.resolve("tiny").weights.is_relative_to(shared.root)
    assert both.further_of(NAME) == shared.root
    made(both, "Tiny", "own")
    os.utime(shared.index.find(NAME))
    assert both.resolve("tiny").system == "own" and both.further_of(NAME) is None
    assert listed(both) == [("Tiny:latest", "own"), ("other:latest", "shared")]
    doubles = [waste for waste in prune(both, 0.0, dry_run=False) if waste.kind == "double"]
    assert [waste.what for waste in doubles] == [str(shared.index.find(NAME))] and not doubles[0].is_removed


@pytest.mark.req("LIB-13")
def test_nothing_of_a_further_store_is_written_or_removed(both: Store, store: Store, shared: Store) -> None:
    def files() -> dict[Path, float]:
        return {path: path.stat().st_mtime_ns for path in shared.root.rglob("*")}

    digest = made(shared, "tiny", "shared")
    unnamed, _ = shared.blobs.put(b"unnamed")
    before = files()
    both.copy(NAME, Name.parse("mine"))
    assert both.freed(Name.parse("mine")) == 0
    assert not store.blobs.root.exists() and both.blobs.has(digest)
    made(both, "made", "own")
    both.delete(Name.parse("mine"))
    both.delete(Name.parse("made"))
    prune(both, -1.0, dry_run=False)
    assert both.remove_unnamed(unnamed)
    both.sweep()
    assert files() == before
    assert not list(store.blobs.root.iterdir())
    assert listed(both) == [("tiny:latest", "shared")]


@pytest.mark.req("LIB-13", "LIB-35")
async def test_a_model_that_is_only_read_is_not_removed_and_the_words_say_where_it_is(both: Store, shared: Store) -> None:
    made(shared, "tiny", "shared")
    library = Library(both)
    for way in (library.delete, library.freed):
        with pytest.raises(RequestError, match=f"lies in {shared.root}, which is only read"):
            await way(NAME, "tiny")
    made(both, "tiny", "own")
    assert await library.delete(NAME, "tiny") == [f"Tiny:latest is still there: {shared.root} has one, too, and is only read"]
    assert both.resolve("tiny").system == "shared"
    with pytest.raises(ModelNotFound):
        await library.delete(Name.parse("none"), "none")


def _remove(root: Path) -> None:
    shutil.rmtree(root)


def _be_a_file(root: Path) -> None:
    shutil.rmtree(root)
    root.write_text("no folder")


def _lose_blobs(root: Path) -> None:
    shutil.rmtree(root / "blobs")


def _forbid(root: Path) -> None:
    root.chmod(0)


@pytest.mark.req("LIB-13", "LIB-07")
@pytest.mark.parametrize("spoil", [_remove, _be_a_file, _lose_blobs, _forbid])
def test_a_further_store_that_is_broken_keeps_no_model_of_the_first(
    both: Store, shared: Store, spoil: Callable[[Path], None]
) -> None:
    made(shared, "other", "shared")
    made(both, "tiny", "own", gguf_file([*MODEL.items(), ("general.name", "own")]))
    spoil(shared.root)
    fresh = Store(both.root, further=both.further)
    try:
        assert fresh.resolve("tiny").system == "own"
        assert ("tiny:latest", "own") in listed(fresh)
        with pytest.raises(SerowError):
            fresh.resolve("nothing")
        assert made(fresh, "new", "own")
        fresh.delete(Name.parse("new"))
    finally:
        if shared.root.exists():
            shared.root.chmod(0o755)


@pytest.mark.req("LIB-13")
def test_a_further_store_that_is_not_there_is_told_at_start(tmp_path: Path) -> None:
    store = Store(tmp_path / "own", further=[tmp_path / "none"])
    assert [f"{tmp_path / 'none'} is not there" in notice for notice in Library(store, Settings()).notices()] == [True]
