"""Only what the product made is ever deleted or overwritten: a stranger's files of like names, beside ours, stay.

One row for each place that something is removed from or written to. A new sweep gets a row.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from serow.cli import picture
from serow.engines.check.checks import Checks
from serow.engines.home import EngineHome
from serow.engines.kinds import WHEEL
from serow.engines.llamacpp.slot_cache import SlotCache
from serow.errors import NotFound, RequestError
from serow.library.downloads import Downloads
from serow.store.prune import prune
from serow.store.store import Store
from serow.system import disk, owned
from tests.conftest import create
from tests.engines.llamacpp.engines import load_request
from tests.pictures import SHAPES, create_pipeline

HEX = "0123456789abcdef"
LONG_AGO = (1000, 1000)
WORK = "weeks of work"


@dataclass(frozen=True)
class Place:
    """A directory that we use, names that a stranger gives there, and what we do then."""

    directory: str
    names: tuple[str, ...]
    act: Callable[[Path, Path], None]  # with the root of all, and the weights of a small model


def sweep_slots(root: Path, weights: Path) -> None:
    for limit in (0, 1 << 20):
        cache = SlotCache(root, limit)
        cache.sweep()
        if place := cache.place(load_request(weights)):
            place.open()
            place.make_room(1)
            place.close()
        cache.make_room(1, root)


def use_the_store(root: Path, weights: Path) -> None:
    store = Store(root)
    create(store, "a", weights)
    create_pipeline(store, "drawing", SHAPES)
    for name in ("a", "drawing"):
        store.delete(store.resolve(name).name)
    store.sweep()
    prune(store, 0.0, dry_run=False)


def sweep_downloads(root: Path, _: Path) -> None:
    downloads = Downloads(Store(root).blobs, root / "downloads")
    downloads.sweep(0.0)
    assert downloads.partials() == []


def use_engines(root: Path, _: Path) -> None:
    home = EngineHome(root)
    acts: tuple[Callable[[], object], ...] = (
        lambda: home.remove("llama.cpp"),
        lambda: home.remove("ik"),
        lambda: home.use(WHEEL.name),
        lambda: Checks(root).put([]),
        home.claim,
    )
    for act in acts:
        with pytest.raises((RequestError, NotFound)):
            act()


def use_our_engines(root: Path, _: Path) -> None:
    home = EngineHome(root)
    owned.mark(root)  # ours from before the stranger came
    for name in ("llama.cpp", "ik"):
        with pytest.raises(RequestError, match="holds other files"):
            home.remove(name)
        with pytest.raises(RequestError, match="holds other files"), home.lock(name):
            pass  # what a build begins with


PLACES = {
    "slots": Place(
        "slots",
        (HEX * 2, f"{HEX * 2}.{HEX[:8]}", "notes", f"{HEX * 2}.bak", "record.json", "0.slot"),
        sweep_slots,
    ),
    "partial files": Place(
        "models/blobs",
        (".notes-partial", "-partial", ".serow-notes-partial", ".serow-0123abcd-partial.txt"),
        use_the_store,
    ),
    "partial manifests": Place(
        "models/manifests", (".notes-partial", "registry.ollama.ai/library/.mine-partial"), use_the_store
    ),
    "pipelines": Place("models/pipelines", ("diffusion", "a", HEX, HEX * 4, f"{HEX * 4}.old", ".draft"), use_the_store),
    "downloads": Place("models/downloads", (f"sha256-{HEX * 4}", HEX * 4, "notes", f"sha256-{HEX * 4}.bak"), sweep_downloads),
    "a clone": Place("src", ("llama.cpp", "build/llama.cpp", "notes"), use_engines),
    "engines": Place("src", ("llama.cpp",), use_engines),
    "clones among our engines": Place("engines", ("llama.cpp", "build/ik"), use_our_engines),
    "notes among our builds": Place("engines", ("build/llama.cpp/notes", "ik/llama-server"), use_our_engines),
    "builds": Place("src", ("ik", "used", "checks.json"), use_engines),
}


def strangers(directory: Path, names: tuple[str, ...], kind: str) -> list[Path]:
    """Files, directories or links to a directory, all of them old; returns the files that must stay."""
    elsewhere = directory / "elsewhere of the stranger"
    made = []
    for number, name in enumerate(names):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        held = path if kind == "file" else (path if kind == "directory" else elsewhere / str(number)) / "thesis.tex"
        held.parent.mkdir(parents=True, exist_ok=True)
        held.write_text(WORK)
        os.utime(held, LONG_AGO)
        if kind == "link":
            path.symlink_to(held.parent)
        else:
            os.utime(path, LONG_AGO)
        made.append(path if kind == "file" else path / "thesis.tex")
    return made


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_strangers_work_stays(tmp_path: Path, zoo: Path, place: Place, kind: str) -> None:
    made = strangers(tmp_path / place.directory, place.names, kind)
    place.act(tmp_path / place.directory.partition("/")[0], zoo / "zoo-think.gguf")
    assert [path.read_text() for path in made] == [WORK] * len(made)


def test_a_picture_goes_into_no_file_that_is_there_nor_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(picture, "file_name", lambda prompt, now: "cat.png")
    (tmp_path / "cat.png").symlink_to(tmp_path / "not there")
    (tmp_path / "cat-2.png").write_text(WORK)
    assert picture.save("cG5n", "a cat").name == "cat-3.png"
    assert (tmp_path / "cat-2.png").read_text() == WORK and not (tmp_path / "not there").exists()


def test_what_somebody_put_into_a_pipelines_folder_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    create_pipeline(store, "drawing", SHAPES)
    folder = store.resolve("drawing").weights
    (folder / "vae" / "notes.txt").write_text(WORK)
    store.delete(store.resolve("drawing").name)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["notes.txt"]


def test_a_pipelines_folder_goes_with_its_last_model(tmp_path: Path) -> None:
    store = Store(tmp_path)
    create_pipeline(store, "drawing", SHAPES)
    create_pipeline(store, "drawing:2", SHAPES, steps=2)
    folder = store.resolve("drawing").weights
    assert store.resolve("drawing:2").weights == folder
    store.delete(store.resolve("drawing").name)
    assert folder.is_dir()
    store.delete(store.resolve("drawing:2").name)
    assert not folder.exists()


def test_our_own_unfinished_files_are_known_by_their_names(tmp_path: Path) -> None:
    for _ in range(50):
        _, path = disk.open_partial(tmp_path)
        assert disk.PARTIAL.fullmatch(path.name)


def test_engines_that_an_earlier_version_built_stay_ours(tmp_path: Path) -> None:
    home = EngineHome(tmp_path)
    (tmp_path / "ik").mkdir()
    (tmp_path / "ik" / "engine.json").write_text('{"sha256": "0", "source": "s", "built_at": "2026"}')
    (tmp_path / "checks.json").write_text("[]")
    home.use("")
    home.claim()
    home.remove("ik")
    assert not (tmp_path / "ik").exists()
