"""Ollama's image models, made of tiny pipelines as Ollama stored them, draw what the folder with the same numbers draws."""

import json
from pathlib import Path

import pytest

from serow.store import manifest as media
from serow.store.manifest import encode
from serow.store.name import Name
from serow.store.show import show
from serow.store.store import Store
from tests.engines.diffusers.conftest import Drawn, Run
from tests.pictures import needs_packages

pytestmark = [needs_packages, pytest.mark.timeout(600)]

KINDS, FORMS = ("flux", "z_image", "klein"), ("plain", "three", "one")


def layer(store: Store, media_type: str, data: bytes, name: str = "") -> dict[str, object]:
    digest, _ = store.blobs.put(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data), **({"name": name} if name else {})}


def put(store: Store, name: str, folder: Path) -> None:
    """A model as Ollama has it on the disk."""
    layers = [
        layer(store, kind, (folder / file).read_bytes(), path)
        for kind, path, file in json.loads((folder / "layers.json").read_bytes())
    ]
    config = layer(store, media.CONFIG, encode({"model_format": "safetensors", "capabilities": ["image"]}))
    manifest = {"schemaVersion": 2, "mediaType": media.MANIFEST, "config": config, "layers": layers}
    store.put_manifest(Name.parse(name), encode(manifest))


@pytest.fixture(scope="module")
def peers(run: Run, folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each kind in each form."""
    out = tmp_path_factory.mktemp("peers")
    run("peer.py", out, *(folders / kind for kind in KINDS))
    return out


@pytest.fixture(scope="module")
def store(peers: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that Ollama filled."""
    store = Store(tmp_path_factory.mktemp("store"))
    for folder in peers.iterdir():
        put(store, folder.name, folder)
    return store


@pytest.mark.req("PIC-01")
def test_every_kind_in_every_form_draws_what_the_folder_with_the_same_numbers_draws(
    store: Store, peers: Path, drawn: Drawn
) -> None:
    names = [f"{kind}-{form}" for kind in KINDS for form in FORMS]
    digests = drawn(*(store.resolve(name).weights for name in names), *(peers / name / "unpacked" for name in names))
    found, wanted = digests[: len(names)], digests[len(names) :]
    assert dict(zip(names, found, strict=True)) == dict(zip(names, wanted, strict=True))
    assert all(len(digest) == 64 for digest in found) and len(set(found)) == len(names)


@pytest.mark.req("PIC-01", "LIB-40")
def test_such_a_model_is_shown_with_what_its_index_says(store: Store) -> None:
    model = store.resolve("klein-one")
    assert model.capabilities == ("image",) and not model.refusal
    shown = show(model, "", verbose=False, system="", options={})
    assert shown.details.family == "Flux2KleinPipeline" and shown.details.quantization_level == "ONE"
    assert shown.details.parameter_size == "123K" and shown.details.format == "safetensors"
    assert shown.picture_defaults and shown.picture_defaults["steps"].value == 4


@pytest.mark.req("PIC-01")
def test_no_second_copy_of_the_weights_is_on_the_disk(store: Store) -> None:
    folder = store.resolve("z_image-three").weights
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 50 and all(path.is_symlink() or path.stat().st_nlink > 1 for path in files)
