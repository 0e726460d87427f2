from pathlib import Path

import pytest

from serow.errors import ModelFileError
from serow.store.name import Name
from serow.store.pipeline import check_path
from serow.store.store import Store
from tests.conftest import MODELS
from tests.store.conftest import Make

SHAPES = MODELS / "zoo" / "image" / "zoo-shapes"


@pytest.fixture
def files(store: Store) -> dict[str, str]:
    """The files of zoo-shapes, uploaded."""
    return {path.relative_to(SHAPES).as_posix(): store.blobs.add(path) for path in SHAPES.rglob("*") if path.is_file()}


@pytest.mark.req("GEN-18")
def test_a_folder_makes_a_model_that_draws(store: Store, make: Make, files: dict[str, str]) -> None:
    make("zoo-shapes", files=files, license=("MIT",))
    model = store.resolve("zoo-shapes")
    assert model.is_image and model.capabilities == ("image",)
    assert {path.relative_to(model.weights).as_posix() for path in model.weights.rglob("*") if path.is_file()} == files.keys()
    assert (model.weights / "model_index.json").read_bytes() == (SHAPES / "model_index.json").read_bytes()
    assert model.details is not None
    assert (model.details.family, model.details.parameter_size) == ("StableDiffusionPipeline", "5.63M")


def test_its_folder_goes_with_its_last_name(store: Store, make: Make, files: dict[str, str]) -> None:
    make("zoo-shapes", files=files)
    folder = store.resolve("zoo-shapes").weights
    store.copy(Name.parse("zoo-shapes"), Name.parse("copied"))
    store.delete(Name.parse("zoo-shapes"))
    assert store.resolve("copied").weights == folder and folder.is_dir()
    store.delete(Name.parse("copied"))
    assert not folder.exists()


def test_a_folder_that_was_removed_is_laid_out_again(store: Store, make: Make, files: dict[str, str], tmp_path: Path) -> None:
    make("zoo-shapes", files=files)
    store.resolve("zoo-shapes").weights.rename(tmp_path / "away")
    assert Store(store.root).resolve("zoo-shapes").weights.is_dir()


@pytest.mark.parametrize(
    "path",
    (
        *("../x.json", "/x.json", "a/../x.json", "a//x.json", "", ".hidden.json", "a\\x.json", "a/b/c/d/x.json", "x.json/"),
        *("unet/diffusion_pytorch_model.bin", "model.ckpt", "pipeline.py", "x.pkl", "x"),
    ),
)
def test_a_file_that_leaves_the_folder_or_could_hold_code_is_refused(path: str) -> None:
    with pytest.raises(ModelFileError):
        check_path(path)


@pytest.mark.parametrize("index", [b"", b"[]", b"{}", b'{"_class_name": 5}', b'{"_class_name": ["module", "Class"]}'])
def test_a_folder_that_names_no_pipeline_is_refused(store: Store, make: Make, files: dict[str, str], index: bytes) -> None:
    digest, _ = store.blobs.put(index)
    with pytest.raises(ModelFileError, match=r"model_index\.json is broken"):
        make("odd", files={**files, "model_index.json": digest})


def test_a_folder_with_broken_weights_is_refused(store: Store, make: Make, files: dict[str, str]) -> None:
    digest, _ = store.blobs.put(b"\xff" * 100)
    with pytest.raises(ModelFileError, match="safetensors file is broken"):
        make("odd", files={**files, "unet/diffusion_pytorch_model.safetensors": digest})
