"""How large pictures become, and what is done to those that they start from; nothing is loaded."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from serow.engines.base import ImageRequest
from serow.engines.diffusers import sizes
from serow.engines.diffusers.stand_in import stand_in as pipeline
from tests.pictures import needs_packages

pytestmark = needs_packages
CUT = "scaled, and cut at its edges,"


def of(name: str, factor: int = 8, patch: int = 1) -> Any:
    """A pipeline whose latents stand for `factor` pixels, packed `patch` by `patch` by its transformer."""
    pipe = pipeline(name, transformer={"patch_size": patch})
    pipe.image_processor = SimpleNamespace(config=SimpleNamespace(vae_scale_factor=factor))
    pipe.vae_scale_factor = 8
    return pipe


def png(width: int, height: int, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height), "red" if mode == "RGB" else 255).save(out, "PNG")
    return out.getvalue()


def drawn(pipe: Any, **fields: Any) -> tuple[sizes.Canvas, dict[str, Any], list[str]]:
    warnings: list[str] = []
    request = ImageRequest("a cat", **fields)
    canvas = sizes.canvas(pipe, request, warnings)
    return canvas, sizes.arguments(pipe, canvas, request, warnings), warnings


@pytest.mark.parametrize(
    ("pipe", "step", "least"),
    [
        (("StableDiffusionPipeline", 4), 8, 8),
        (("StableDiffusionXLPipeline",), 8, 8),
        (("AuraFlowPipeline", 8, 2), 16, 16),
        (("StableDiffusion3Pipeline", 8, 2), 16, 16),
        (("FluxPipeline", 16), 16, 16),
        (("QwenImagePipeline", 16), 16, 16),
        (("Flux2KleinPipeline", 16), 16, 64),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
def test_the_grid_is_the_pipelines(pipe: tuple[Any, ...], step: int, least: int) -> None:
    made = of(*pipe)
    assert (sizes.grid(made), sizes.least(made, step)) == (step, least)


def test_a_size_off_the_grid_is_rounded_and_told() -> None:
    canvas, _, warnings = drawn(of("AuraFlowPipeline", 8, 2), width=100, height=64)
    assert canvas.size == (96, 64) and warnings == ["width 100 was rounded to 96: the model draws in multiples of 16"]
    canvas, _, warnings = drawn(of("Flux2KleinPipeline", 16), width=32, height=64)
    assert canvas.size == (64, 64)
    assert warnings == ["width 32 was rounded to 64: the model draws in multiples of 16, 64 at least"]


def test_without_a_size_the_pipeline_has_its_own() -> None:
    assert drawn(of("StableDiffusionPipeline"))[1] == {}


@pytest.mark.req("PIC-05")
@pytest.mark.parametrize(
    ("own", "asked", "size", "told"),
    [
        ((80, 48), {}, (80, 48), []),
        ((80, 47), {}, (80, 48), ["the image of 80x47 pixels was scaled to 80x48"]),
        ((2000, 1000), {}, (1448, 728), ["the image of 2000x1000 pixels was scaled to 1448x728"]),
        ((80, 40), {"width": 160}, (160, 80), ["the image of 80x40 pixels was scaled to 160x80"]),
        (
            (80, 40),
            {"width": 64, "height": 64},
            (64, 64),
            ["the image of 80x40 pixels was scaled, and cut at its edges, to 64x64"],
        ),
        ((5000, 8), {}, (4096, 8), ["the image of 5000x8 pixels was scaled, and cut at its edges, to 4096x8"]),
    ],
)
def test_a_picture_to_start_from_keeps_its_shape(
    own: tuple[int, int], asked: dict[str, int], size: tuple[int, int], told: list[str]
) -> None:
    canvas, arguments, warnings = drawn(of("StableDiffusionImg2ImgPipeline"), images=(png(*own),), **asked)
    assert canvas.size == size == arguments["image"].size and warnings == told


@pytest.mark.req("PIC-05")
def test_kontext_draws_the_size_that_was_asked_for() -> None:
    _, arguments, _ = drawn(of("FluxKontextPipeline", 16), images=(png(64, 64),), width=512, height=256)
    assert (arguments["width"], arguments["height"]) == (512, 256)
    assert (arguments["max_area"], arguments["_auto_resize"]) == (512 * 256, False)


@pytest.mark.req("PIC-05")
def test_pictures_that_are_looked_at_stay_as_they_are_but_for_what_is_too_small() -> None:
    _, arguments, warnings = drawn(of("Flux2KleinPipeline", 16), images=(png(640, 480), png(32, 48)))
    assert [each.size for each in arguments["image"]] == [(640, 480), (64, 96)] and len(warnings) == 1


@pytest.mark.req("PIC-05")
def test_steps_are_raised_where_none_would_be_drawn() -> None:
    pipe = of("StableDiffusionImg2ImgPipeline")
    _, arguments, warnings = drawn(pipe, images=(png(8, 8),), steps=2, strength=0.1)
    assert arguments["num_inference_steps"] == 10 and arguments["strength"] == 0.1
    assert warnings == ["steps were raised from 2 to 10: with a strength of 0.1 fewer leave none to draw"]
    assert drawn(pipe, images=(png(8, 8),), steps=1)[1]["num_inference_steps"] == 2  # at its own strength of 0.8
    assert drawn(pipe, images=(png(8, 8),), strength=0.0)[1] == {
        **drawn(pipe, images=(png(8, 8),))[1],
        "image": drawn(pipe, images=(png(8, 8),))[1]["image"],
        "num_inference_steps": 1000,
        "strength": 0.001,
    }


@pytest.mark.req("PIC-05")
def test_a_mask_is_made_to_fit_its_picture() -> None:
    mask, pipe = png(20, 10, "L"), of("StableDiffusionInpaintPipeline")
    canvas, arguments, warnings = drawn(pipe, images=(png(40, 40),), mask=mask)
    assert canvas.mask is not None and arguments["mask_image"].size == (40, 40)
    assert warnings == ["the mask of 20x10 pixels was scaled to the image's 40x40"]
