"""Models of single files, made of zoo-shapes: they draw what the folder with the same numbers draws."""

import shutil
from pathlib import Path

import pytest

from serow.engines.base import ImageRequest
from serow.errors import ModelFileError
from serow.store.create import Recipe
from serow.store.folder import SINGLE
from serow.store.name import Name
from serow.store.pipeline import files_of
from serow.store.store import Store
from tests.engines.diffusers.conftest import Drawn, Run
from tests.pictures import SHAPES, create_pipeline, needs_packages

pytestmark = [needs_packages, pytest.mark.timeout(600)]

RED = ImageRequest(prompt="a red circle", width=64, height=64, steps=4, seeds=(12,), guidance=4.0)
KINDS = ("Q8_0", "Q4_0", "BF16", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")


@pytest.fixture(scope="module")
def files(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """zoo-shapes as one file, its UNet alone, and that as GGUF."""
    out = tmp_path_factory.mktemp("single")
    run("original.py", SHAPES, out / "whole.safetensors", out / "unet.safetensors")
    run("packed.py", out / "unet.safetensors", SHAPES, "unet", out, *KINDS)
    return out


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def make(store: Store, name: str, file: Path, base: Path | None = SHAPES) -> Path:
    """The folder of a model that is made of a file over a base."""
    parts = {path: store.blobs.add(each) for path, each in (files_of(base)[0] if base else {}).items()}
    single = {f"{SINGLE}/{file.name}" if base else file.name: store.blobs.add(file)}
    for _ in store.create(Name.parse(name), Recipe(files={**parts, **single})):
        pass
    return store.resolve(name).weights


@pytest.mark.req("PIC-02")
def test_a_checkpoint_a_denoiser_and_gguf_draw_what_the_folder_with_the_same_numbers_draws(
    store: Store, files: Path, drawn: Drawn
) -> None:
    whole = make(store, "whole", files / "whole.safetensors")
    alone = make(store, "alone", files / "unet.safetensors")
    packed = [make(store, kind, files / f"{kind}.gguf") for kind in KINDS]
    assert not list((whole / "unet").glob("*.safetensors")) and (whole / SINGLE / "whole.safetensors").is_file()
    assert (alone / "vae" / "diffusion_pytorch_model.safetensors").is_file()
    shapes, *others = drawn(SHAPES, whole, alone, *packed, *(files / kind for kind in KINDS), request=RED)
    assert others[:2] == [shapes, shapes]
    count = len(KINDS)
    assert others[2 : 2 + count] == others[2 + count :] and len(set(others)) == 1 + count


@pytest.mark.req("PIC-02")
def test_checkpoints_of_later_families_draw_what_their_folders_draw(
    store: Store, run: Run, folders: Path, drawn: Drawn, tmp_path: Path
) -> None:
    names = ("stable_diffusion", "stable_diffusion_2", "stable_diffusion_xl")
    made = []
    for name in names:
        run("original.py", folders / name, tmp_path / f"{name}.safetensors")
        made.append(make(store, name.replace("_", "-"), tmp_path / f"{name}.safetensors", folders / name))
        assert [path.parent.name for path in made[-1].glob("*/*.safetensors")] == [SINGLE]
    results = drawn(*(folders / name for name in names), *made)
    assert results[:3] == results[3:] and len({*results}) == 3 and all(len(each) == 64 for each in results)


@pytest.mark.req("PIC-02")
def test_a_file_lies_over_a_model_that_is_here(store: Store, files: Path) -> None:
    create_pipeline(store, "base", SHAPES)
    digest = store.blobs.add(files / "Q8_0.gguf")
    for _ in store.create(Name.parse("packed"), Recipe(source=Name.parse("base"), files={"Q8_0.gguf": digest})):
        pass
    folder = store.resolve("packed").weights
    assert [path.name for path in (folder / SINGLE).iterdir()] == ["Q8_0.gguf"]


def test_a_denoiser_alone_needs_a_base(store: Store, files: Path) -> None:
    with pytest.raises(ModelFileError, match="holds a UNet2DConditionModel alone: it needs a base") as refused:
        make(store, "alone", files / "unet.safetensors", None)
    assert "two lines" in refused.value.hint
    with pytest.raises(ModelFileError, match="holds a UNet2DConditionModel alone"):
        make(store, "alone", files / "Q8_0.gguf", None)


def test_a_denoiser_of_another_family_does_not_fit_its_base(store: Store, files: Path, folders: Path) -> None:
    with pytest.raises(ModelFileError, match="holds a UNet2DConditionModel, the base has a FluxTransformer2DModel"):
        make(store, "odd", files / "unet.safetensors", folders / "flux")


def test_a_cut_file_is_refused(store: Store, files: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    shutil.copy(files / "unet.safetensors", cut)
    with cut.open("r+b") as file:
        file.truncate(100_000)
    with pytest.raises(ModelFileError, match=r"^cut\.safetensors: a safetensors file is broken"):
        make(store, "cut", cut)
