"""Classes that the installed packages lack are found by their sources; importing the packages takes seconds."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serow.engines.diffusers import installed, stand_in
from serow.errors import ModelFileError
from serow.store.picture_defaults import Hints
from tests.pictures import SHAPES, needs_packages

INDEX = json.loads((SHAPES / "model_index.json").read_text())


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is remembered of other packages."""
    monkeypatch.setattr(installed, "_found", set())
    yield
    installed._is_lacking.cache_clear()
    for each in (stand_in.is_pipeline, stand_in.needs, stand_in.takes, stand_in._source):
        each.cache_clear()


@needs_packages
@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"_class_name": "NopePipeline"}, "the model is a NopePipeline, which diffusers"),
        ({"_class_name": "UNet2DConditionModel"}, "the model is a UNet2DConditionModel, which diffusers"),
        ({"unet": ["diffusers", "UNet9DModel"]}, "the part unet is a UNet9DModel, which diffusers"),
        ({"text_encoder": ["transformers", "UNet2DConditionModel"]}, "UNet2DConditionModel, which transformers"),
        ({"tokenizer": ["transformers", "NopeTokenizerFast"]}, "the part tokenizer is a NopeTokenizerFast, which transformers"),
        ({"safety_checker": ["stable_diffusion", "Nope"]}, "the part safety_checker is a Nope, which diffusers"),
        ({"safety_checker": ["kolors", "StableDiffusionSafetyChecker"]}, "StableDiffusionSafetyChecker, which diffusers"),
    ],
)
def test_a_class_that_is_not_there_is_told_with_its_part_and_package(entry: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelFileError, match=told) as refused:
        installed.check(Hints(index={**INDEX, **entry}))
    assert "pip install --upgrade" in refused.value.hint
    (said,) = installed.lacking(Hints(index={**INDEX, **entry}))
    assert told in said


@needs_packages
@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"tokenizer": ["transformers", "CLIPTokenizerFast"], "text_encoder": ["transformers", "CLIPTextModelWithProjection"]},
        {"tokenizer": ["transformers", "T5TokenizerFast"], "text_encoder": ["transformers", "T5EncoderModel"]},
        {"feature_extractor": ["transformers", "CLIPFeatureExtractor"]},  # of old folders
        {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]},
        {"tokenizer": ["kolors", "ChatGLMTokenizer"], "_class_name": "KolorsPipeline"},
        {"_class_name": "StableDiffusionInpaintPipeline"},
        {"safety_checker": [None, None]},
        {"_class_name": None, "architecture": "ZImagePipeline", "transformer": ["diffusers", "ZImageTransformer2DModel"]},
    ],
)
def test_a_class_that_is_there_is_never_refused(entry: dict[str, Any]) -> None:
    assert installed.lacking(Hints(index={key: value for key, value in {**INDEX, **entry}.items() if value})) == []


@needs_packages
@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            {"_class_name": "FluxFillPipeline"},
            "a FluxFillPipeline, which needs the parts text_encoder_2, tokenizer_2, transformer",
        ),
        (
            {"_class_name": "StableDiffusionControlNetPipeline"},
            "which needs the part controlnet: its model_index.json names none",
        ),
        ({"_class_name": "DDPMPipeline"}, "the model is a DDPMPipeline, which does not draw from a text"),
        ({"unet": ["diffusers", "DiffusionPipeline"]}, "the part unet is a DiffusionPipeline, which is a whole pipeline"),
    ],
)
def test_a_pipeline_that_can_not_draw_is_told_before_it_is_loaded(entry: dict[str, Any], told: str) -> None:
    (said,) = installed.lacking(Hints(index={**INDEX, **entry}))
    assert told in said


@needs_packages
def test_a_part_that_its_class_can_do_without_may_be_missing() -> None:
    index = {name: value for name, value in INDEX.items() if name not in ("safety_checker", "feature_extractor")}
    assert installed.lacking(Hints(index=index)) == []


def test_of_packages_that_are_not_there_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serow.engines.diffusers.installed._found", set())
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    installed._is_lacking.cache_clear()
    assert installed.lacking(Hints(index={**INDEX, "unet": ["diffusers", "UNet9DModel"]})) == []
    assert installed.lacking(Hints(index={**INDEX, "_class_name": "NopePipeline"})) == []


def test_of_packages_without_sources_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installed, "_sources", lambda _: iter(()))
    monkeypatch.setattr(installed, "is_pipeline", lambda _: True)
    installed._is_lacking.cache_clear()
    assert installed.lacking(Hints(index={**INDEX, "unet": ["diffusers", "UNet9DModel"]})) == []
