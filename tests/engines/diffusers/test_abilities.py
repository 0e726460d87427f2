"""What a pipeline is refused, and in which words; pipelines by their signatures, nothing is loaded."""

from typing import Any

import pytest

from serow.engines.base import ImageRequest
from serow.engines.diffusers import abilities
from serow.engines.diffusers.abilities import Forms
from serow.errors import RequestError
from tests.engines.diffusers.signatures import pipeline
from tests.pictures import needs_packages

pytestmark = needs_packages
PICTURE = b"picture"


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


def test_a_pipeline_that_may_look_at_a_picture_draws_without_one_too() -> None:
    for name in ("FluxKontextPipeline", "Flux2KleinPipeline"):
        pipe = pipeline(name)
        assert Forms(pipe).of(ImageRequest("a cat")) is pipe
