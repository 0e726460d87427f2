"""Settings and vocabulary of Stable Diffusion's parts, for checkpoints of one file that hold weights only (PIC-02).

The vocabulary is CLIP's: byte pairs in the order in which they were merged, which make the tokens. It is OpenAI's, under
the MIT license that lies beside it.
"""

import json
import lzma
from collections.abc import Iterator
from importlib import resources
from typing import Any

from serow.store.checkpoint import Checkpoint

_CLIP = {
    "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "max_position_embeddings": 77, "vocab_size": 49408,
    "layer_norm_eps": 1e-5, "attention_dropout": 0.0, "initializer_factor": 1.0, "initializer_range": 0.02,
    "model_type": "clip_text_model",
}  # fmt: skip
_SMALL = {
    "architectures": ["CLIPTextModel"], "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "hidden_act": "quick_gelu", "projection_dim": 768,
}  # fmt: skip
_HUGE = {
    "architectures": ["CLIPTextModel"], "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23,
    "num_attention_heads": 16, "hidden_act": "gelu", "projection_dim": 512,
}  # fmt: skip
_GIANT = {
    "architectures": ["CLIPTextModelWithProjection"], "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
    "num_attention_heads": 20, "hidden_act": "gelu", "projection_dim": 1280,
}  # fmt: skip
_DOWN, _UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
_UNET = {
    "_class_name": "UNet2DConditionModel", "act_fn": "silu", "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": [_DOWN, _DOWN, _DOWN, "DownBlock2D"], "up_block_types": ["UpBlock2D", _UP, _UP, _UP],
    "in_channels": 4, "out_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "norm_eps": 1e-5,
    "flip_sin_to_cos": True, "freq_shift": 0, "downsample_padding": 1, "mid_block_scale_factor": 1,
}  # fmt: skip
_UNETS: dict[str, dict[str, Any]] = {
    "sd1": {"attention_head_dim": 8, "cross_attention_dim": 768, "sample_size": 64},
    "sd2": {
        "attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "sample_size": 64, "use_linear_projection": True,
    },
    "xl": {
        "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048, "sample_size": 128, "use_linear_projection": True,
        "block_out_channels": [320, 640, 1280], "down_block_types": ["DownBlock2D", _DOWN, _DOWN],
        "up_block_types": [_UP, _UP, "UpBlock2D"], "transformer_layers_per_block": [1, 2, 10],
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
    },
}  # fmt: skip
_VAE = {
    "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512], "in_channels": 3,
    "out_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "sample_size": 512,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4, "scaling_factor": 0.18215,
}  # fmt: skip
_NOISE = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "steps_offset": 1,
}  # fmt: skip
_START, _END = "<|startoftext|>", "<|endoftext|>"
_TOKENIZER = {
    "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": _START, "eos_token": _END, "unk_token": _END,
    "add_prefix_space": False, "do_lower_case": True, "errors": "replace",
}  # fmt: skip


def settings(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Every file beside the weights that a pipeline of a whole checkpoint has, by path."""
    kind = checkpoint.kind
    is_xl = kind == "xl"
    files: dict[str, Any] = {
        "model_index.json": _index(is_xl),
        "unet/config.json": {**_UNET, **_UNETS[kind], **({"sample_size": 96} if _is_large(checkpoint) else {})},
        "vae/config.json": {
            **_VAE,
            **({"scaling_factor": 0.13025, "sample_size": 1024, "force_upcast": True} if is_xl else {}),
        },
        "scheduler/scheduler_config.json": _scheduler(checkpoint),
        "text_encoder/config.json": {**_CLIP, **(_HUGE if kind == "sd2" else _SMALL)},
        "tokenizer/tokenizer_config.json": {**_TOKENIZER, "pad_token": "!" if kind == "sd2" else _END},
    }
    if is_xl:
        files["text_encoder_2/config.json"] = {**_CLIP, **_GIANT}
        files["tokenizer_2/tokenizer_config.json"] = {**_TOKENIZER, "pad_token": "!"}
    written = {path: json.dumps(content, sort_keys=True).encode() for path, content in files.items()}
    for part in ("tokenizer", "tokenizer_2") if is_xl else ("tokenizer",):
        written |= {f"{part}/{name}": data for name, data in vocabulary().items()}
    return written


def _is_large(checkpoint: Checkpoint) -> bool:
    return checkpoint.kind == "sd2" and checkpoint.prediction == "v_prediction"


def _index(is_xl: bool) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    }
    if is_xl:
        second = {
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
        }
        parts |= {**second, "scheduler": ["diffusers", "EulerDiscreteScheduler"]}
        return {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True, **parts}
    none = {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    return {"_class_name": "StableDiffusionPipeline", **parts, "scheduler": ["diffusers", "DDIMScheduler"], **none}


def _scheduler(checkpoint: Checkpoint) -> dict[str, Any]:
    noise = {**_NOISE, "prediction_type": checkpoint.prediction}
    if checkpoint.kind == "xl":
        zero = (
            {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
            if checkpoint.zero_snr
            else {"timestep_spacing": "leading"}
        )
        return {
            **noise,
            "_class_name": "EulerDiscreteScheduler",
            "interpolation_type": "linear",
            "use_karras_sigmas": False,
            **zero,
        }
    return {**noise, "_class_name": "DDIMScheduler", "clip_sample": False, "set_alpha_to_one": False}


def vocabulary() -> dict[str, bytes]:
    """CLIP's vocab.json and merges.txt."""
    merges = lzma.decompress(resources.files("serow.store").joinpath("clip_merges.xz").read_bytes()).decode().split("\n")
    letters = [*_letters()]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges), _START, _END]
    numbers = {token: number for number, token in enumerate(tokens)}
    return {
        "vocab.json": json.dumps(numbers, ensure_ascii=False).encode(),
        "merges.txt": "\n".join(("#version: 0.2", *merges, "")).encode(),
    }


def _letters() -> Iterator[str]:
    """A character that can be seen for each byte, in CLIP's order."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    yield from map(chr, seen)
    yield from (chr(256 + number) for number in range(256 - len(seen)))
