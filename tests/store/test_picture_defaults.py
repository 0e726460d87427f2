from collections.abc import Mapping
from typing import Any

import pytest

from serow.store.picture_defaults import CODE, FAMILY, MODELFILE, Default, Hints, defaults

SCHEDULER, INDEX = "scheduler/scheduler_config.json", "model_index.json"
TRAILING = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}


def drawn_with(name: str, parameters: Mapping[str, Any] | None = None, **files: Any) -> tuple[Any, Any, str]:
    """Steps, guidance, and who says how many steps."""
    index = {"_class_name": f"{name}Pipeline", **files.pop("index", {})}
    found = defaults(Hints(index=index, **files), parameters or {})
    return found["steps"].value, found["guidance"].value, found["steps"].source


@pytest.mark.req("PIC-04")
@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        ("StableDiffusion", {}, (50, 7.5, FAMILY)),
        ("StableDiffusion", {"scheduler": {"_class_name": "DDIMScheduler", "timestep_spacing": "trailing"}}, (50, 7.5, FAMILY)),
        ("StableDiffusion", {"scheduler": TRAILING}, (4, 0.0, SCHEDULER)),
        ("StableDiffusion", {"scheduler": {"_class_name": "LCMScheduler"}}, (4, 1.0, SCHEDULER)),
        ("StableDiffusionXL", {}, (50, 5.0, FAMILY)),
        ("StableDiffusionXLImg2Img", {}, (50, 5.0, FAMILY)),
        ("StableDiffusionXL", {"scheduler": TRAILING}, (4, 0.0, SCHEDULER)),
        (
            "StableDiffusionXL",
            {"names": ("dreamshaperXL_lightning.safetensors",)},
            (4, 0.0, "dreamshaperXL_lightning.safetensors"),
        ),
        ("StableDiffusionXL", {"names": ("turbomachine.safetensors",)}, (50, 5.0, FAMILY)),
        ("StableDiffusion3", {"index": {"_name_or_path": "stabilityai/stable-diffusion-3.5-large-turbo"}}, (4, 0.0, INDEX)),
        ("StableDiffusion3", {}, (28, 7.0, FAMILY)),
        ("LatentConsistencyModel", {"scheduler": {"_class_name": "LCMScheduler"}}, (4, 8.5, SCHEDULER)),
        ("Flux", {"denoiser": {"guidance_embeds": True}}, (28, 3.5, FAMILY)),
        ("Flux", {"denoiser": {"guidance_embeds": False}}, (4, 0.0, "transformer/config.json")),
        ("FluxKontext", {"denoiser": {"guidance_embeds": True}}, (28, 2.5, FAMILY)),
        ("Flux2Klein", {"index": {"is_distilled": True}}, (4, 1.0, INDEX)),
        ("Flux2Klein", {"index": {"is_distilled": False, "_name_or_path": "FLUX.2-klein"}}, (50, 4.0, FAMILY)),
        ("Flux2Klein", {"index": {"_name_or_path": "black-forest-labs/FLUX.2-klein-4B"}}, (4, 1.0, INDEX)),
        ("Flux2Klein", {"index": {"_name_or_path": "black-forest-labs/FLUX.2-klein-base-4B"}}, (50, 4.0, FAMILY)),
        ("ZImage", {"scheduler": {"shift": 3.0}}, (9, 0.0, SCHEDULER)),
        ("ZImage", {"scheduler": {"shift": 6.0}}, (50, 5.0, FAMILY)),
        ("QwenImage", {}, (50, 4.0, FAMILY)),
        ("Krea2", {"index": {"is_distilled": True}}, (8, 0.0, INDEX)),
        ("SanaSprint", {}, (2, 4.5, FAMILY)),
        ("OfTomorrow", {}, (None, None, CODE)),
        ("OfTomorrow", {"index": {"is_distilled": True}}, (8, None, INDEX)),
    ],
)
def test_steps_and_guidance_are_those_that_the_model_draws_well_with(
    name: str, files: dict[str, Any], expected: tuple[Any, Any, str]
) -> None:
    assert drawn_with(name, **files) == expected


def test_a_model_that_says_architecture_in_the_place_of_its_class_is_known_too() -> None:
    found = defaults(Hints(index={"architecture": "Flux2KleinPipeline", "is_distilled": True}), {})
    assert found["steps"] == Default(4, INDEX)


def test_the_modelfile_lies_over_what_the_files_say() -> None:
    found = defaults(Hints(index={"_class_name": "FluxPipeline"}), {"steps": 12, "width": 64})
    assert found["steps"] == Default(12, MODELFILE) and found["width"] == Default(64, MODELFILE)
    assert found["guidance"] == Default(3.5, FAMILY) and found["height"] == Default(1024, FAMILY)


@pytest.mark.parametrize(
    ("denoiser", "channels", "expected"),
    [
        ({"sample_size": 64}, [1, 2, 3, 4], (512, 512, "unet/config.json")),
        ({"sample_size": 16}, [1, 2, 3], (64, 64, "unet/config.json")),
        ({"sample_size": [96, 64]}, [1, 2, 3, 4], (768, 512, "unet/config.json")),
        ({"sample_size": "large"}, [1, 2, 3, 4], (None, None, CODE)),
        ({"sample_size": 1 << 40}, [1, 2, 3, 4], (None, None, CODE)),
        ({"sample_size": -8}, [], (None, None, CODE)),
        ({}, [1], (None, None, CODE)),
    ],
)
def test_the_size_is_the_one_that_the_denoiser_was_trained_with(
    denoiser: dict[str, Any], channels: list[int], expected: tuple[Any, Any, str]
) -> None:
    index = {"_class_name": "StableDiffusionPipeline"}
    found = defaults(Hints(index=index, denoiser=denoiser, vae={"block_out_channels": channels}), {})
    assert (found["height"].value, found["width"].value, found["width"].source) == expected
