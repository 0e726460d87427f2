"""How much memory it takes to read a description, by the text encoders' configurations, and how many tokens it becomes."""

from collections.abc import Iterator
from typing import Any

from serow.engines.diffusers.signature import parameters

_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
_CLIP = 77  # tokens that a text is filled up to where a pipeline does not say how many
_SHORT = 64  # tokens of a usual text, where it is not filled up
_UNFILLED = ("QwenImage", "ZImage", "CogView4")  # pipelines whose denoiser sees only the tokens that there are
_READ_UNFILLED = ("QwenImage", "CogView4")  # whose text encoder sees no others, either
_APART = ("PixArt", "Sana")  # whose text is looked at by another attention, and never among the picture's tokens


def text_tokens(pipe: Any) -> int:
    """How many tokens of text lie beside those of the picture."""
    name, longest = type(pipe).__name__, _longest(pipe)
    if name.startswith(_APART):
        return 0
    return min(longest, _SHORT) if name.startswith(_UNFILLED) else longest


def reading(pipe: Any) -> int:
    """Bytes in the widest layer of any text encoder; those with a configuration that is not known take nothing."""
    encoders = [encoder for name in _ENCODERS if (encoder := getattr(pipe, name, None)) is not None]
    tokens = _longest(pipe) or _CLIP
    if type(pipe).__name__.startswith(_READ_UNFILLED):
        tokens = min(tokens, _SHORT)
    return max((_of_encoder(each, tokens) for each in encoders), default=0)


def _longest(pipe: Any) -> int:
    """Tokens that a text is filled up to, or cut to; 0 where the pipeline does not say it."""
    found = parameters(pipe).get("max_sequence_length")
    return found.default if found is not None and isinstance(found.default, int) else 0


def _of_encoder(encoder: Any, tokens: int) -> int:
    config = getattr(encoder.config, "text_config", encoder.config)
    width, inner, layers, heads, words = (_first(config, *names) for names in _NAMES)
    tokens = min(tokens, _first(config, "max_position_embeddings") or tokens)
    layer = 3 * inner + 5 * width
    if type(encoder).__name__.startswith("T5"):  # keeps no layer's answer, and computes attention as a whole
        return int(tokens * (6 * width + 3 * heads * tokens) * encoder.dtype.itemsize)
    answer = words if type(encoder).__name__.endswith("ForCausalLM") else 0
    return int(tokens * (layers * width + max(layer, answer)) * encoder.dtype.itemsize)


_NAMES = (
    ("hidden_size", "d_model"),
    ("intermediate_size", "d_ff"),
    ("num_hidden_layers", "num_layers"),
    ("num_attention_heads", "num_heads"),
    ("vocab_size",),
)


def _first(config: Any, *names: str) -> int:
    """The first of these numbers that a configuration has."""
    found: Iterator[Any] = (getattr(config, name, None) for name in names)
    return next((number for number in found if isinstance(number, int)), 0)
