import re
from pathlib import Path

import msgspec
import pytest

from serow.errors import ModelFileError
from serow.library.library import Library
from serow.store.create import Recipe
from serow.store.name import Name
from serow.store.picture_defaults import Hints
from serow.store.pipeline import check_parts, files_of, hints
from serow.store.show import show
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


def test_a_template_that_a_picture_has_no_use_for_stays_in_sight(store: Store, make: Make, files: dict[str, str]) -> None:
    make("zoo-shapes", files=files, template="{{ .Prompt }} drawn")
    model = store.resolve("zoo-shapes")
    assert model.template == "{{ .Prompt }} drawn" and model.capabilities == ("image",)
    assert "TEMPLATE" in show(model, "", verbose=False, system="", options={}).modelfile


async def test_what_a_picture_has_no_use_for_is_told_when_the_model_is_made(store: Store, files: dict[str, str]) -> None:
    recipe = Recipe(
        files=files,
        template="{{ .Prompt }}",
        system="Draw.",
        messages=({"role": "user", "content": "x"},),
        parameters={"top_k": 4, "steps": 3, "seed": 1},
    )
    *_, last = [record async for record in Library(store).create(Name.parse("shapes"), recipe)]
    assert last["warnings"] == [
        "template: has no effect on a model that draws",
        "system: has no effect on a model that draws",
        "messages: has no effect on a model that draws",
        'parameters: "top_k" has no effect on a model that draws',
    ]


def test_the_modelfile_that_is_shown_makes_the_model_without_a_warning(store: Store, files: dict[str, str]) -> None:
    for _ in store.create(Name.parse("shapes"), Recipe(files=files, parameters={"steps": 3})):
        pass
    shown = show(store.resolve("shapes"), "", verbose=False, system="", options={}).modelfile
    assert [line.split()[0] for line in shown.splitlines() if line and not line.startswith("#")] == ["FROM", "PARAMETER"]


@pytest.mark.req("PIC-04")
def test_show_tells_what_is_drawn_with_and_who_says_so(store: Store, make: Make, files: dict[str, str]) -> None:
    make("zoo-shapes", files=files, parameters={"steps": 12})
    shown = show(store.resolve("zoo-shapes"), "", verbose=False, system="", options={})
    assert shown.picture_defaults and {name: (each.value, each.source) for name, each in shown.picture_defaults.items()} == {
        "steps": (12, "Modelfile"),
        "guidance": (7.5, "family"),
        "width": (64, "unet/config.json"),
        "height": (64, "unet/config.json"),
        "scheduler": ("DDIM", "scheduler/scheduler_config.json"),
    }


def test_broken_settings_say_nothing_of_defaults() -> None:
    found = hints(["model_index.json", "vae/config.json"], lambda name: {"model_index.json": b"{}"}.get(name, b"["))
    assert found == Hints()


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
    ("index", "message"),
    [
        (b"", "is broken"),
        (b"[]", "is broken"),
        (b"{}", "names no class of a pipeline"),
        (b'{"_class_name": 5}', "names 5 as its pipeline, which is no class"),
        (b'{"_class_name": ["module", "Class"]}', 'names ["module", "Class"] as its pipeline, which is no class'),
        (b'{"_class_name": "../x"}', 'names "../x" as its pipeline, which is no class'),
    ],
)
def test_a_folder_that_names_no_pipeline_is_refused(
    store: Store, make: Make, files: dict[str, str], index: bytes, message: str
) -> None:
    digest, _ = store.blobs.put(index)
    with pytest.raises(ModelFileError, match=re.escape(f"model_index.json {message}")):
        make("odd", files={**files, "model_index.json": digest})


def test_a_folder_with_broken_weights_is_refused(store: Store, make: Make, files: dict[str, str]) -> None:
    digest, _ = store.blobs.put(b"\xff" * 100)
    with pytest.raises(ModelFileError, match=r"^[a-z_]+/[a-z_]+\.safetensors: a safetensors file is broken"):
        make("odd", files={**files, "unet/diffusion_pytorch_model.safetensors": digest})


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (["os", "system"], "the part unet is code of the model's own"),
        (["my_unet", "UNet"], "the part unet is code of the model's own"),
        (["diffusers", "../x"], "the part unet is code of the model's own"),
        (["diffusers"], r"model_index\.json says 1 things of the part unet"),
    ],
)
def test_a_part_that_is_not_of_the_known_libraries_is_refused(component: list[str], message: str) -> None:
    index = {"_class_name": "StableDiffusionPipeline", "unet": component, "safety_checker": [None, None]}
    with pytest.raises(ModelFileError, match=message):
        check_parts(msgspec.json.encode(index), ["unet/config.json"])


@pytest.mark.parametrize("part", ["../../etc", "/etc", "a/b", "..", "C:\\x", "", "x" * 101, "unet\0"])
def test_a_part_whose_name_leaves_the_folder_is_refused_by_it(part: str) -> None:
    index = {"_class_name": "StableDiffusionPipeline", part: ["diffusers", "AutoencoderKL"]}
    with pytest.raises(ModelFileError, match=r"model_index\.json names the part \".*: a part is a folder of the model"):
        check_parts(msgspec.json.encode(index), [])


def test_a_part_without_files_is_refused() -> None:
    index = {"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"]}
    with pytest.raises(ModelFileError, match="the part vae is missing"):
        check_parts(msgspec.json.encode(index), ["unet/config.json"])


def test_a_folder_gives_its_weights_and_settings_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    kept = ["model_index.json", "unet/config.json", "unet/model.safetensors"]
    for name in (*kept, "README.md", "unet/code.py", "all-in-one.safetensors", "unet/model.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "model_index.json").write_text('{"_class_name": "A", "unet": ["diffusers", "UNet2DConditionModel"]}')
    files, left_out = files_of(tmp_path)
    assert list(files) == kept and [said.split()[0] for said in left_out] == ["all-in-one.safetensors", "unet/model.bin"]


@pytest.mark.parametrize("name", ["unet/model.bin", "vae/weights.PKL", "vae/model.ckpt"])
def test_a_folder_with_pickles_only_is_refused_with_a_hint(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    part = {Path(name).parent.name: ["diffusers", "AutoencoderKL"]}
    (tmp_path / "model_index.json").write_bytes(msgspec.json.encode({"_class_name": "A", **part}))
    with pytest.raises(ModelFileError, match="could hold code: weights must be safetensors") as refused:
        files_of(tmp_path)
    assert "save_pretrained" in refused.value.hint


async def test_what_is_left_out_is_told_when_the_model_is_made(store: Store, files: dict[str, str]) -> None:
    half = {"unet/diffusion_pytorch_model.fp16.safetensors": files["unet/diffusion_pytorch_model.safetensors"]}
    made = Library(store).create(Name.parse("shapes"), Recipe(files={**files, **half}))
    *_, last = [record async for record in made]
    assert last["warnings"] == [f"{next(iter(half))} is left out: unet/diffusion_pytorch_model.safetensors is taken"]
    assert store.resolve("shapes").details.parameter_size == "5.63M"  # type: ignore[union-attr]


def test_a_safetensors_file_that_is_no_model_is_refused(store: Store, make: Make, files: dict[str, str]) -> None:
    with pytest.raises(ModelFileError, match=r"model\.safetensors holds no model of a kind that is known here"):
        make("odd", files={"model.safetensors": files["vae/diffusion_pytorch_model.safetensors"]})


def test_models_that_differ_in_parameters_only_share_their_folder(store: Store, make: Make, files: dict[str, str]) -> None:
    make("slow", files=files, parameters={"steps": 50})
    make("fast", source=Name.parse("slow"), parameters={"steps": 4})
    slow, fast = store.resolve("slow"), store.resolve("fast")
    assert slow.weights == fast.weights and slow.digest != fast.digest
    store.delete(Name.parse("slow"))
    assert fast.weights.is_dir()


def test_a_disk_without_hard_links_gets_symbolic_ones(
    store: Store, make: Make, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.link", _refuse)
    make("zoo-shapes", files=files)
    index = store.resolve("zoo-shapes").weights / "model_index.json"
    assert index.is_symlink() and index.read_bytes() == (SHAPES / "model_index.json").read_bytes()


def _refuse(*_: object) -> None:
    raise PermissionError


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("WanPipeline", "makes videos"),
        ("HunyuanVideoPipeline", "makes videos"),
        ("LTXPipeline", "makes videos"),
        ("StableVideoDiffusionPipeline", "makes videos"),
        ("AnimateDiffPipeline", "makes videos"),
        ("CogVideoXPipeline", "makes videos"),
        ("StableAudioPipeline", "makes sound"),
        ("MusicLDMPipeline", "makes sound"),
        ("MarigoldDepthPipeline", "tells depth"),
        ("FluxPriorReduxPipeline", "does one step of several"),
        ("StableDiffusionUpscalePipeline", "does one step of several"),
    ],
)
def test_a_pipeline_that_draws_no_picture_is_refused_when_it_is_made(family: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=f"the model is a {family}, which {message}"):
        check_parts(msgspec.json.encode({"_class_name": family}), [])


@pytest.mark.parametrize(
    "family",
    [
        *(
            "StableDiffusionPipeline",
            "StableDiffusionXLPipeline",
            "StableDiffusion3Pipeline",
            "FluxPipeline",
            "FluxKontextPipeline",
        ),
        *(
            "Flux2KleinPipeline",
            "ZImagePipeline",
            "QwenImagePipeline",
            "QwenImageEditPlusPipeline",
            "SanaPipeline",
            "ChromaPipeline",
        ),
        *("HunyuanDiTPipeline", "HunyuanImagePipeline", "Kandinsky5T2IPipeline", "KolorsPipeline", "AuraFlowPipeline"),
        *(
            "LatentConsistencyModelPipeline",
            "Lumina2Pipeline",
            "PixArtSigmaPipeline",
            "CogView4Pipeline",
            "StableCascadeCombinedPipeline",
        ),
    ],
)
def test_a_pipeline_that_draws_is_not_taken_for_another(family: str) -> None:
    assert check_parts(msgspec.json.encode({"_class_name": family}), []).family == family
