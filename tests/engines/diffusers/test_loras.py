"""LoRA files over tiny pipelines: loaded, weighed by requests, and refused where they do not fit."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from serow.engines.base import ImageRequest
from serow.errors import ModelFileError
from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.pipeline import files_of
from serow.store.show import show
from serow.store.store import Store
from tests.engines.diffusers.conftest import Drawn, Run
from tests.pictures import SHAPES, ZOO, checker, needs_packages

pytestmark = [needs_packages, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def loras(run: Run, folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("loras")
    run("loras.py", out, folders / "stable_diffusion", folders / "z_image")
    return out


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def make(store: Store, name: str, base: Path, adapters: Mapping[str, Path], weights: Mapping[str, float] | None = None) -> Path:
    """The folder of a model with LoRA files."""
    files = {path: store.blobs.add(each) for path, each in files_of(base)[0].items()}
    recipe = Recipe(
        files=files,
        adapters={path: store.blobs.add(each) for path, each in adapters.items()},
        parameters={"adapters": dict(weights)} if weights else {},
    )
    for _ in store.create(Name.parse(name), recipe):
        pass
    return store.resolve(name).weights


@pytest.mark.req("PIC-03")
def test_a_lora_changes_the_picture_and_with_the_weight_0_it_is_as_without(
    store: Store, folders: Path, loras: Path, drawn: Drawn
) -> None:
    adapters = {
        "sketch.v1.safetensors": loras / "stable_diffusion.safetensors",
        "other.safetensors": loras / "stable_diffusion.safetensors",
    }
    unet = make(store, "unet", folders / "stable_diffusion", adapters)
    transformer = make(store, "transformer", folders / "z_image", {"glow.safetensors": loras / "z_image.safetensors"})
    bases = folders / "stable_diffusion", folders / "z_image"
    *plain, without, glowless = drawn(*bases, unet, transformer, f"{unet}=0", f"{transformer}=0")
    assert len(set(plain)) == 4 and [without, glowless] == plain[:2]


@pytest.mark.req("PIC-03")
def test_a_lora_that_names_its_layers_in_two_ways_draws_what_it_does_under_one_naming(
    store: Store, folders: Path, loras: Path, drawn: Drawn
) -> None:
    made = [
        make(store, f"{kind}-{name}", folders / kind, {"a.safetensors": loras / f"{kind}{name}.safetensors"})
        for kind in ("stable_diffusion", "z_image")
        for name in ("", "-mixed")
    ]
    one, two, other, another = drawn(*made)
    assert one == two and other == another and len(one) == len(other) == 64


@pytest.mark.req("PIC-03")
def test_a_lora_that_is_read_in_part_is_refused(store: Store, folders: Path, loras: Path, drawn: Drawn) -> None:
    mixed = {"scaled.safetensors": loras / "stable_diffusion-scaled.safetensors"}
    (said,) = drawn(make(store, "mixed", folders / "stable_diffusion", mixed))
    assert re.search(r"the adapter scaled does not fit the model: of \d+ layers of its unet only \d+ could be changed", said)


@pytest.mark.req("PIC-03")
def test_a_trained_lora_does_what_it_has_learned_and_nothing_with_the_weight_0(
    store: Store, drawn: Drawn, tmp_path: Path
) -> None:
    """zoo-shapes-outlined draws lines around shapes: the checker sees the colours that were asked for, and no filled shape."""
    outlined = make(store, "outlined", SHAPES, {"outlined.safetensors": ZOO / "zoo-shapes-outlined.safetensors"})
    request = ImageRequest(prompt="a blue circle", seeds=(3,), width=64, height=64, steps=12, guidance=4.0)
    plain, without, half, whole = drawn(SHAPES, *(f"{outlined}={n}" for n in (0, 0.5, 1)), request=request, keep=tmp_path)
    assert plain == without
    with checker() as verify:
        filled, lines = (verify.analyse(Image.open(tmp_path / f"{digest}.png")) for digest in (plain, whole))
    assert (filled["object"], filled["background"], filled["shape"]) == ("blue", "white", "circle")
    assert (lines["object"], lines["background"], lines["shape"]) == ("blue", "white", "unknown")
    assert lines["area"] < 0.75 * filled["area"] and len({plain, half, whole}) == 3


@pytest.mark.req("PIC-03")
def test_what_does_not_fit_is_refused_when_the_model_is_made(store: Store, folders: Path, loras: Path) -> None:
    unet, transformer = loras / "stable_diffusion.safetensors", loras / "z_image.safetensors"
    with pytest.raises(ModelFileError, match="it changes a transformer, the model has a UNet"):
        make(store, "odd", folders / "stable_diffusion", {"a.safetensors": transformer})
    with pytest.raises(ModelFileError, match="it changes a UNet, the model has a transformer"):
        make(store, "odd", folders / "z_image", {"a.safetensors": unet})
    with pytest.raises(ModelFileError, match=r"a\.safetensors is not a LoRA"):
        make(store, "odd", folders / "z_image", {"a.safetensors": next((folders / "z_image/vae").glob("*.safetensors"))})
    with pytest.raises(ModelFileError, match='two adapters have the name "a_b"'):
        make(store, "odd", folders / "stable_diffusion", {"a.b.safetensors": unet, "a b.safetensors": unet})


@pytest.mark.req("PIC-03")
def test_the_modelfile_that_is_shown_names_adapters_with_their_weights(store: Store, folders: Path, loras: Path) -> None:
    adapters = {"sketch.safetensors": loras / "stable_diffusion.safetensors"}
    folder = make(store, "sketched", folders / "stable_diffusion", adapters, {"sketch": 0.8})
    model = store.resolve("sketched")
    assert dict(model.parameters["adapters"]) == {"sketch": 0.8}
    shown = show(model, "", verbose=False, system="", options={})
    assert f"ADAPTER {folder}/_lora/sketch.safetensors 0.8\n" in shown.modelfile and "PARAMETER adapters" not in shown.modelfile


def test_a_model_made_of_one_with_adapters_keeps_them(store: Store, folders: Path, loras: Path) -> None:
    adapters = {"sketch.safetensors": loras / "stable_diffusion.safetensors"}
    make(store, "sketched", folders / "stable_diffusion", adapters, {"sketch": 0.8})
    more = {"more.safetensors": store.blobs.add(loras / "stable_diffusion.safetensors")}
    for _ in store.create(Name.parse("both"), Recipe(source=Name.parse("sketched"), adapters=more, parameters={"steps": 3})):
        pass
    model = store.resolve("both")
    assert [path.name for path in model.adapters] == ["sketch.safetensors", "more.safetensors"]
    assert dict(model.parameters["adapters"]) == {"sketch": 0.8}
