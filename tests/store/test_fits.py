"""Weights that are not those of their config.json, found before anything is loaded."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from serow.errors import ModelFileError
from serow.store.fits import check
from serow.store.safetensors import read_shapes
from tests.pictures import SHAPES

UNET: Mapping[str, Any] = json.loads((SHAPES / "unet/config.json").read_bytes())


def shapes_of(part: str) -> dict[str, tuple[int, ...]]:
    (path,) = (SHAPES / part).glob("*.safetensors")
    return {name: tuple(shape) for name, (_, shape) in read_shapes(path).items()}


@pytest.mark.parametrize(
    ("part", "kind"), [("unet", "UNet2DConditionModel"), ("vae", "AutoencoderKL"), ("text_encoder", "CLIPTextModel")]
)
def test_a_real_part_fits(part: str, kind: str) -> None:
    check(part, kind, json.loads((SHAPES / part / "config.json").read_bytes()), shapes_of(part))


@pytest.mark.req("PIC-02")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": 9}, r"conv_in.weight has 4 numbers on a side where in_channels makes it 9"),
        ({"cross_attention_dim": 768}, r"attn2.to_k.weight has 96 numbers on a side where cross_attention_dim makes it 768"),
        ({"block_out_channels": [64, 96]}, r"its weights have 3 down_blocks, its config.json says 2 \(block_out_channels\)"),
        ({"block_out_channels": [320, 640, 1280]}, r"conv_in.weight has 64 numbers on a side where block_out_channels\[0\]"),
    ],
)
def test_settings_of_another_model_are_refused_by_the_part(change: dict[str, Any], message: str) -> None:
    with pytest.raises(
        ModelFileError, match=r"^the part unet \(UNet2DConditionModel\) does not fit its config.json: .*" + message
    ):
        check("unet", "UNet2DConditionModel", {**UNET, **change}, shapes_of("unet"))


@pytest.mark.parametrize(
    ("kind", "config", "tensor", "shape"),
    [
        ("T5EncoderModel", {"num_layers": 2}, "encoder.block.2.layer.0.SelfAttention.q.weight", (64, 64)),
        ("UNet2DConditionModel", {"block_out_channels": [320]}, "model.diffusion_model.input_blocks.0.0.weight", (64, 4, 3, 3)),
        ("AutoencoderKL", {"block_out_channels": [128]}, "first_stage_model.encoder.conv_in.weight", (32, 3, 3, 3)),
        ("CLIPTextModel", {"hidden_size": 1024}, "cond_stage_model.model.transformer.resblocks.0.mlp.c_fc.weight", (96, 24)),
        ("CLIPTextModel", {"num_hidden_layers": 12}, "text_model.encoder.layers.22.mlp.fc1.weight", (4096, 1024)),
        ("Qwen3Model", {"hidden_size": 2560}, "model.embed_tokens.weight", (151936, 1024)),
        ("FluxTransformer2DModel", {"num_single_layers": 38}, "single_transformer_blocks.7.proj_mlp.weight", (8, 8)),
        ("FluxTransformer2DModel", {"num_attention_heads": 24, "attention_head_dim": 128}, "x_embedder.weight", (1536, 64)),
        ("QwenImageTransformer2DModel", {"num_layers": 60}, "transformer_blocks.29.attn.to_q.weight", (8, 8)),
    ],
)
def test_each_class_is_told_by_some_of_its_tensors(
    kind: str, config: dict[str, Any], tensor: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ModelFileError, match=f"the part x .{kind}. does not fit its config.json"):
        check("x", kind, config, {tensor: shape})


@pytest.mark.parametrize("config", [{}, {"num_layers": "two", "d_model": [1], "vocab_size": None, "in_channels": True}])
def test_a_setting_that_is_not_there_or_is_no_number_says_nothing(config: dict[str, Any]) -> None:
    for kind in ("T5EncoderModel", "FluxTransformer2DModel", "Other"):
        check("x", kind, config, {"shared.weight": (8, 8), "encoder.block.5.x.weight": (8,), "x_embedder.weight": ()})
