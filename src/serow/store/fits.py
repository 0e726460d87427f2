"""Whether the weights of a network are those of its config.json, told by the sides and the numbers of some of its tensors.

What the table does not know of a class is found when the part is built. A setting that a file does not have says nothing: old
files leave out what was usual.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from serow.errors import ModelFileError

Shapes = Mapping[str, tuple[int, ...]]
_Side = str | int | None  # a setting, a product of two ("a*b"), the first entry of a list ("a[0]"); None: not compared

_CLIP = {
    "token_embedding.weight": ("vocab_size", "hidden_size"),
    "mlp.fc1.weight": ("intermediate_size", "hidden_size"),
    "mlp.c_fc.weight": ("intermediate_size", "hidden_size"),  # as OpenCLIP names it, in a single file
}
_LANGUAGE = {"embed_tokens.weight": ("vocab_size", "hidden_size"), "mlp.gate_proj.weight": ("intermediate_size", "hidden_size")}
_JOINT = "num_attention_heads*attention_head_dim"
_TENSORS: Mapping[str, Mapping[str, tuple[_Side, ...]]] = {  # ends of names of tensors, with what their sides are
    "UNet2DConditionModel": {
        "conv_in.weight": ("block_out_channels[0]", "in_channels"),
        "conv_out.weight": ("out_channels", "block_out_channels[0]"),
        "input_blocks.0.0.weight": ("block_out_channels[0]", "in_channels"),  # in a single file
        "attn2.to_k.weight": (None, "cross_attention_dim"),
    },
    "AutoencoderKL": {
        "decoder.conv_in.weight": (None, "latent_channels"),
        "decoder.conv_out.weight": ("out_channels", "block_out_channels[0]"),
        "encoder.conv_in.weight": ("block_out_channels[0]", "in_channels"),
    },
    "CLIPTextModel": _CLIP,
    "CLIPTextModelWithProjection": {**_CLIP, "text_projection.weight": ("projection_dim", "hidden_size")},
    "T5EncoderModel": {"shared.weight": ("vocab_size", "d_model"), "SelfAttention.q.weight": (None, "d_model")},
    "Qwen3Model": _LANGUAGE,
    "Qwen3ForCausalLM": _LANGUAGE,
    "FluxTransformer2DModel": {
        "img_in.weight": (_JOINT, "in_channels"),  # in a single file
        "x_embedder.weight": (_JOINT, "in_channels"),
        "context_embedder.weight": (_JOINT, "joint_attention_dim"),
    },
    "Flux2Transformer2DModel": {
        "x_embedder.weight": (_JOINT, "in_channels"),
        "context_embedder.weight": (_JOINT, "joint_attention_dim"),
    },
    "QwenImageTransformer2DModel": {
        "img_in.weight": (_JOINT, "in_channels"),
        "txt_in.weight": (_JOINT, "joint_attention_dim"),
    },
    "ZImageTransformer2DModel": {"attention.to_q.weight": (None, "dim")},
}
_COUNTS: Mapping[str, Mapping[str, str]] = {  # what is numbered, with how many there are
    "UNet2DConditionModel": {"down_blocks": "block_out_channels", "up_blocks": "block_out_channels"},
    "AutoencoderKL": {"decoder.up_blocks": "block_out_channels", "encoder.down_blocks": "block_out_channels"},
    "CLIPTextModel": {"encoder.layers": "num_hidden_layers"},
    "CLIPTextModelWithProjection": {"encoder.layers": "num_hidden_layers"},
    "T5EncoderModel": {"encoder.block": "num_layers"},
    "Qwen3Model": {"layers": "num_hidden_layers"},
    "Qwen3ForCausalLM": {"layers": "num_hidden_layers"},
    "FluxTransformer2DModel": {"transformer_blocks": "num_layers", "single_transformer_blocks": "num_single_layers"},
    "Flux2Transformer2DModel": {"transformer_blocks": "num_layers", "single_transformer_blocks": "num_single_layers"},
    "QwenImageTransformer2DModel": {"transformer_blocks": "num_layers"},
    "ZImageTransformer2DModel": {"layers": "n_layers", "noise_refiner": "n_refiner_layers"},
}
_NUMBER = re.compile(r"(?:^|\.)([a-z_]+(?:\.[a-z_]+)?)\.(\d{1,6})\.")


def check(part: str, kind: str, config: Mapping[str, Any], shapes: Shapes) -> None:
    """Raise ModelFileError for weights of a part that can't be those of its settings."""
    sides = _TENSORS.get(kind, {})
    for name, shape in shapes.items():
        for end, wanted in sides.items():
            if _ends(name, end) and (found := _mismatch(shape, wanted, config)):
                raise ModelFileError(f"the part {part} ({kind}) does not fit its config.json: {name} has {found}")
    counted = dict(_counted(shapes))
    for stem, setting in _COUNTS.get(kind, {}).items():
        number, known = counted.get(stem), _count(config.get(setting))
        if number is not None and known is not None and number != known:
            what = f"its weights have {number} {stem}, its config.json says {known} ({setting})"
            raise ModelFileError(f"the part {part} ({kind}) does not fit its config.json: {what}")


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _mismatch(shape: tuple[int, ...], wanted: tuple[_Side, ...], config: Mapping[str, Any]) -> str:
    """Which side is another than the settings say; "" for none."""
    for found, side in zip(shape, wanted, strict=False):
        known = None if side is None else _value(str(side), config)
        if known is not None and found != known:
            return f"{found} numbers on a side where {side} makes it {known}"
    return ""


def _value(side: str, config: Mapping[str, Any]) -> int | None:
    """What a side is by the settings; None when they do not say it as a number."""
    product = 1
    for name in side.split("*"):
        value = config.get(name.removesuffix("[0]"))
        if name.endswith("[0]"):
            value = value[0] if isinstance(value, list) and value else None
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        product *= value
    return product


def _count(value: Any) -> int | None:
    if isinstance(value, list):
        return len(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _counted(shapes: Shapes) -> Iterator[tuple[str, int]]:
    """How many of everything that is numbered there are, under the last one and two words before the number."""
    highest: dict[str, int] = {}
    for name in shapes:
        match = _NUMBER.search(name)
        if match is not None:
            for stem in {match[1], match[1].rpartition(".")[2]}:
                highest[stem] = max(highest.get(stem, -1), int(match[2]))
    yield from ((stem, number + 1) for stem, number in highest.items())
