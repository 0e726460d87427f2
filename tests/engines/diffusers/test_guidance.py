"""What guidance and a negative prompt become, by pipeline; the pipelines' own signatures, nothing is loaded."""

from typing import Any

import pytest

from serow.engines.base import ImageRequest
from serow.engines.diffusers.guidance import guidance_arguments, meaning
from serow.engines.diffusers.stand_in import stand_in as pipeline
from tests.pictures import needs_packages

pytestmark = needs_packages

EMBEDS, PLAIN = {"guidance_embeds": True}, {"guidance_embeds": False}
NO_EFFECT = '"guidance" had no effect: the model is made to draw without'
NO_USE = '"negative_prompt" had no effect: the model has no use for it'
TOO_LOW = '"negative_prompt" had no effect: the guidance is too low, above 1 it counts'


def arguments(pipe: Any, guidance: float | None = None, negative: str | None = None) -> tuple[dict[str, Any], list[str]]:
    warnings: list[str] = []
    request = ImageRequest("a cat", guidance=guidance, negative_prompt=negative)
    return guidance_arguments(pipe, request, warnings), warnings


@pytest.mark.parametrize(
    ("pipe", "kind"),
    [
        (("StableDiffusionPipeline",), "classic"),
        (("StableDiffusionXLPipeline",), "classic"),
        (("StableDiffusion3Pipeline",), "classic"),
        (("AuraFlowPipeline",), "classic"),
        (("ZImagePipeline",), "classic"),
        (("ChromaPipeline",), "classic"),
        (("SanaPipeline", {}, PLAIN), "classic"),
        (("QwenImagePipeline", {}, PLAIN), "true"),
        (("QwenImageEditPlusPipeline", {}, PLAIN), "true"),
        (("FluxPipeline", {}, EMBEDS), "embedded_true"),
        (("FluxKontextPipeline", {}, EMBEDS), "embedded_true"),
        (("FluxPipeline", {}, PLAIN), "distilled_true"),
        (("FluxFillPipeline", {}, EMBEDS), "embedded"),
        (("Flux2Pipeline", {}, EMBEDS), "embedded"),
        (("Flux2KleinPipeline", {"is_distilled": True}, PLAIN), "ignored"),
        (("Flux2KleinPipeline", {"is_distilled": False}, PLAIN), "own"),
        (("Krea2Pipeline", {"is_distilled": True}), "ignored"),
        (("LatentConsistencyModelPipeline",), "embedded"),
        (("SanaSprintPipeline", {}, EMBEDS), "embedded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)),
)
def test_the_kind_of_guidance_is_told_by_signature_and_configuration(pipe: tuple[Any, ...], kind: str) -> None:
    name, config, transformer = (*pipe, {}, {})[:3]
    assert meaning(pipeline(name, config, transformer=transformer)).kind == kind


def test_classic_guidance_needs_a_scale_above_one_for_the_negative_prompt() -> None:
    pipe = pipeline("StableDiffusionPipeline")
    assert arguments(pipe) == ({}, [])
    assert arguments(pipe, 3.0, "a dog") == ({"guidance_scale": 3.0, "negative_prompt": "a dog"}, [])
    assert arguments(pipe, None, "a dog") == ({"negative_prompt": "a dog"}, [])
    assert arguments(pipe, 1.0, "a dog") == ({"guidance_scale": 1.0}, [TOO_LOW])


def test_z_image_is_guided_above_zero() -> None:
    pipe = pipeline("ZImagePipeline")
    assert arguments(pipe, 0.5, "a dog") == ({"guidance_scale": 0.5, "negative_prompt": "a dog"}, [])
    assert arguments(pipe, 0.0, "a dog")[1] == ['"negative_prompt" had no effect: the guidance is too low, above 0 it counts']


def test_an_sdxl_that_was_taught_its_guidance_has_no_use_for_a_negative_prompt() -> None:
    pipe = pipeline("StableDiffusionXLPipeline", unet={"time_cond_proj_dim": 256})
    assert arguments(pipe, 8.0, "a dog") == ({"guidance_scale": 8.0}, [NO_USE])


def test_qwen_image_is_guided_by_default_and_gets_a_blank_negative_prompt() -> None:
    pipe = pipeline("QwenImagePipeline", transformer=PLAIN)
    assert arguments(pipe) == ({"true_cfg_scale": 4.0, "negative_prompt": " "}, [])
    assert arguments(pipe, 3.0, "a dog") == ({"true_cfg_scale": 3.0, "negative_prompt": "a dog"}, [])
    assert arguments(pipe, 1.0, "a dog") == ({"true_cfg_scale": 1.0}, [TOO_LOW])


def test_a_distilled_qwen_image_gets_the_number_that_it_was_taught_too() -> None:
    assert arguments(pipeline("QwenImagePipeline", transformer=EMBEDS), 2.0)[0]["guidance_scale"] == 2.0


def test_flux_takes_guidance_as_a_number_and_a_negative_prompt_by_true_cfg() -> None:
    pipe = pipeline("FluxPipeline", transformer=EMBEDS)
    assert arguments(pipe, 3.5) == ({"guidance_scale": 3.5}, [])
    assert arguments(pipe, 3.5, "a dog") == (
        {"guidance_scale": 3.5, "true_cfg_scale": 2.0, "negative_prompt": "a dog"},
        [],
    )


def test_schnell_has_no_guidance_but_away_from_a_negative_prompt() -> None:
    pipe = pipeline("FluxPipeline", transformer=PLAIN)
    assert arguments(pipe, 3.5) == ({}, [NO_EFFECT])
    assert arguments(pipe, 3.5, "a dog") == ({"true_cfg_scale": 3.5, "negative_prompt": "a dog"}, [])
    assert arguments(pipe, None, "a dog") == ({"true_cfg_scale": 2.0, "negative_prompt": "a dog"}, [])


def test_a_distilled_klein_ignores_both_and_says_so() -> None:
    pipe = pipeline("Flux2KleinPipeline", {"is_distilled": True}, transformer=PLAIN)
    assert arguments(pipe, 3.5, "a dog") == ({}, [NO_EFFECT, NO_USE])
    assert arguments(pipe, 1.0) == ({}, [])


def test_flux_2_and_a_full_klein_have_no_use_for_a_negative_prompt() -> None:
    for pipe in (pipeline("Flux2Pipeline", transformer=EMBEDS), pipeline("Flux2KleinPipeline", transformer=PLAIN)):
        assert arguments(pipe, 3.5, "a dog") == ({"guidance_scale": 3.5}, [NO_USE])
