"""What a pipeline is refused, and in which words; pipelines by their signatures, nothing is loaded."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serow.engines.base import ImageRequest
from serow.engines.diffusers import abilities
from serow.engines.diffusers.abilities import Forms, forms_of
from serow.engines.diffusers.stand_in import stand_in as pipeline
from serow.errors import RequestError
from serow.picture_schedulers import SCHEDULERS
from serow.store.picture_defaults import Hints
from tests.engines.diffusers.conftest import Run
from tests.pictures import needs_packages

pytestmark = needs_packages
PICTURE = b"picture"
DDIM, FLOW = {"_class_name": "DDIMScheduler"}, {"_class_name": "FlowMatchEulerDiscreteScheduler"}


@pytest.mark.req("PIC-05")
@pytest.mark.parametrize(
    ("name", "fields", "message", "param"),
    [
        ("StableDiffusionImg2ImgPipeline", {}, "this model draws from a picture: send one in images", "images"),
        ("StableDiffusionInstructPix2PixPipeline", {}, "this model draws from a picture: send one in images", "images"),
        ("QwenImageEditPipeline", {}, "this model draws from a picture: send one in images", "images"),
        (
            "FluxFillPipeline",
            {},
            "this model draws from a picture: send one in images and a mask in options",
            "images",
        ),
        ("FluxFillPipeline", {"images": 1}, "this model draws into a mask: send one in options", "options.mask"),
        ("QwenImageEditPlusPipeline", {"images": 64}, "this model takes 3 images at most, not 64", "images"),
        ("StableDiffusionImg2ImgPipeline", {"images": 2}, "this model starts from one image at most, not 2", "images"),
        ("Flux2KleinPipeline", {"images": 2, "mask": b"x"}, "a mask belongs to one image, not to several", "options.mask"),
        (
            "Flux2KleinPipeline",
            {"images": 1, "strength": 0.5},
            "this model takes no strength: it looks at the picture and draws anew",
            "options.strength",
        ),
    ],
)
def test_what_a_pipeline_can_not_do_is_refused(name: str, fields: dict[str, Any], message: str, param: str) -> None:
    request = ImageRequest("a cat", **{**fields, "images": (PICTURE,) * fields.get("images", 0)})
    with pytest.raises(RequestError) as refused:
        Forms(pipeline(name)).of(request)
    assert (str(refused.value), refused.value.param) == (message, param)


@pytest.mark.req("PIC-05")
def test_a_model_without_the_form_says_what_it_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = {"picture": pipeline("StableDiffusionImg2ImgPipeline"), "mask": None}
    monkeypatch.setattr(abilities, "_made", lambda _, task: forms[task])
    made = Forms(pipeline("StableDiffusionPipeline"))
    assert made.of(ImageRequest("a cat", images=(PICTURE,))) is forms["picture"]
    with pytest.raises(RequestError, match="does not draw into a mask; it can draw from a text and start from an image"):
        made.of(ImageRequest("a cat", images=(PICTURE,), mask=b"x"))


@pytest.mark.req("PIC-05")
@pytest.mark.parametrize(
    ("name", "files", "told"),
    [
        ("StableDiffusionPipeline", {}, {"images": "optional", "most_images": 1, "mask": "optional", "strength": True}),
        (
            "StableDiffusionPipeline",
            {"scheduler": DDIM},
            {"negative_prompt": True, "schedulers": [*SCHEDULERS]},
        ),
        ("StableDiffusionInpaintPipeline", {}, {"prompt_alone": False, "images": "required", "mask": "required"}),
        ("QwenImageEditPlusPipeline", {}, {"prompt_alone": False, "images": "required", "most_images": 3, "mask": "no"}),
        ("FluxPipeline", {"denoiser": {"guidance_embeds": False}}, {"guidance": False, "negative_prompt": True}),
        ("FluxPipeline", {"scheduler": FLOW}, {"prompt_alone": True, "images": "optional", "schedulers": []}),
        (
            "Flux2KleinPipeline",
            {"index": {"is_distilled": True}},
            {"most_images": 10, "guidance": False},
        ),
        ("AuraFlowPipeline", {}, {"images": "no", "most_images": 0, "mask": "no", "strength": False}),
        ("KolorsPipeline", {}, {"images": "optional", "mask": "no"}),
    ],
)
def test_what_can_be_asked_is_told_before_a_model_is_loaded(name: str, files: dict[str, Any], told: dict[str, Any]) -> None:
    denoiser = {"transformer" if name.startswith(("Flux", "Qwen")) else "unet": ["diffusers", "X"]}
    index = {"_class_name": name, **denoiser, **files.pop("index", {})}
    forms = forms_of(Hints(index=index, **files))
    assert forms is not None
    known = msgspec.structs.asdict(forms.abilities)
    assert {key: list(known[key]) if key == "schedulers" else known[key] for key in told} == told


@pytest.mark.parametrize("index", [{"_class_name": "NopePipeline"}, {"_class_name": "object"}, {"_class_name": []}, {}])
def test_of_a_class_that_is_not_there_nothing_is_told(index: dict[str, Any]) -> None:
    assert forms_of(Hints(index=index)) is None


@pytest.mark.timeout(600)
def test_what_is_told_before_is_what_the_loaded_pipeline_says(run: Run, folders: Path) -> None:
    told, loaded = json.loads(run("abilities_program.py", *sorted(folders.iterdir())).splitlines()[-1])
    assert told == loaded and len(told) == 7


def test_a_pipeline_that_may_look_at_a_picture_draws_without_one_too() -> None:
    for name in ("FluxKontextPipeline", "Flux2KleinPipeline"):
        pipe = pipeline(name)
        assert Forms(pipe).of(ImageRequest("a cat")) is pipe
