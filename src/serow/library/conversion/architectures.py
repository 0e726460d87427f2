"""The text models of transformers that are converted: their tensors and their settings as llama.cpp has them.

Names and values are those of llama.cpp's `convert_hf_to_gguf.py`.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from serow.library.conversion.gguf_file import Refusal, f32, string, u32

_MOST_LAYERS = 1 << 12
_LAYER = re.compile(r"model\.layers\.(\d{1,5})\.(.+)\.(weight|bias)")
_TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
}
_TWO_NORMS = {**_PARTS, "post_attention_layernorm": "ffn_norm"}
_FOUR_NORMS = {
    **_PARTS,
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_REQUIRED = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "attn_norm", "ffn_norm")


@dataclass(frozen=True)
class Kind:
    """How a class of transformers is converted."""

    architecture: str
    parts: Mapping[str, str] = field(default_factory=lambda: _TWO_NORMS)
    is_permuted: bool = False  # the rows of queries and keys come in the order of llama's first code
    norms_from_one: bool = False  # what norms multiply by is kept as the difference from 1
    theta: float = 10_000.0  # where the config says none


KINDS = {
    "LlamaForCausalLM": Kind("llama", is_permuted=True),
    "MistralForCausalLM": Kind("llama", is_permuted=True),
    "Qwen2ForCausalLM": Kind("qwen2"),
    "Qwen3ForCausalLM": Kind("qwen3", theta=1_000_000.0),
    "Gemma3ForCausalLM": Kind("gemma3", _FOUR_NORMS, norms_from_one=True, theta=1_000_000.0),
}


class Settings:
    """A model's config.json, read key by key; raises Refusal for a value that can't be."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        names = found.get("architectures")
        name = names[0] if isinstance(names, list) and names else "unknown"
        if name not in KINDS:
            raise Refusal(f'unsupported architecture "{str(name)[:80]}"')
        if found.get("quantization_config") is not None:
            raise Refusal("the weights are quantized already: convert the model as it was before")
        if found.get("use_sliding_window") is True:
            raise Refusal("a model of this kind with a sliding window is not converted")
        self.kind = KINDS[name]
        self._found = found
        rope = found.get("rope_parameters") or found.get("rope_scaling") or {}
        self.rope: Mapping[str, Any] = rope if isinstance(rope, dict) else {}

    def count(self, key: str, default: int = 0) -> int:
        """A count or a length."""
        value = self._found.get(key)
        value = default if value is None else value
        if type(value) is not int or not 0 < value < 1 << 31:
            raise Refusal(f'config.json: "{key}" is not a whole number above zero')
        return value

    def has(self, key: str) -> bool:
        """Whether a key is there."""
        return self._found.get(key) is not None

    @property
    def is_tied(self) -> bool:
        """Whether what comes out is read by the same numbers as what goes in."""
        return bool(self._found.get("tie_word_embeddings", self.kind.norms_from_one))

    def real(self, key: str, default: float, among: Mapping[str, Any] | None = None) -> float:
        """A number."""
        value = (self._found if among is None else among).get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Refusal(f'config.json: "{key}" is not a number')
        return float(value)

    @property
    def head_length(self) -> int:
        """Numbers that one head reads."""
        return self.count("head_dim", max(1, self.count("hidden_size") // self.count("num_attention_heads")))

    @property
    def theta(self) -> float:
        """The base of the rotation's frequencies."""
        return self.real("rope_theta", self.real("rope_theta", self.kind.theta, self.rope))

    @property
    def metadata(self) -> dict[str, bytes]:
        """The settings as the file has them."""
        heads = self.count("num_attention_heads")
        found = {
            "block_count": u32(self.count("num_hidden_layers")),
            "context_length": u32(self.count("max_position_embeddings", 131_072)),
            "embedding_length": u32(self.count("hidden_size")),
            "feed_forward_length": u32(self.count("intermediate_size")),
            "attention.head_count": u32(heads),
            "attention.head_count_kv": u32(self.count("num_key_value_heads", heads)),
            "attention.key_length": u32(self.head_length),
            "attention.value_length": u32(self.head_length),
            "attention.layer_norm_rms_epsilon": f32(self.real("rms_norm_eps", 1e-6)),
            "rope.dimension_count": u32(self.head_length),
            "rope.freq_base": f32(self.theta),
            **dict(self._scaling()),
        }
        if self.kind.architecture == "gemma3" and self.has("sliding_window"):
            found["attention.sliding_window"] = u32(self.count("sliding_window"))
        return {f"{self.kind.architecture}.{key}": value for key, value in found.items()}

    @property
    def scaling(self) -> str:
        """How the rotation is stretched for longer texts, "" for not at all."""
        kind = self.rope.get("rope_type", self.rope.get("type", "default"))
        if kind not in ("default", "linear", "yarn", "llama3"):
            raise Refusal(f'config.json: a rotation of the kind "{str(kind)[:40]}" is not converted')
        return "" if kind == "default" else str(kind)

    def _scaling(self) -> Iterator[tuple[str, bytes]]:
        if self.scaling in ("linear", "yarn"):
            yield "rope.scaling.type", string(self.scaling)
            yield "rope.scaling.factor", f32(self.real("factor", 1.0, self.rope))
        if self.scaling == "yarn":
            yield (
                "rope.scaling.original_context_length",
                u32(int(self.real("original_max_position_embeddings", 0.0, self.rope))),
            )

    def frequency_factors(self) -> list[float]:
        """What the rotation's frequencies are divided by, as Llama 3.1 and later have it; nothing for others."""
        if self.scaling != "llama3":
            return []
        factor, low, high = (self.real(key, value, self.rope) for key, value in _LLAMA3)
        old = self.real("original_max_position_embeddings", 8192.0, self.rope)
        found = []
        for number in range(0, self.head_length, 2):
            length = 2 * math.pi * self.theta ** (number / self.head_length)
            smooth = min(max((old / length - low) / (high - low), 0.0), 1.0)
            found.append(1 / ((1 - smooth) / factor + smooth))
        return found

    def name(self, tensor: str) -> str:
        """What llama.cpp calls a tensor, "" for one that it does not need; raises Refusal for one that is not known."""
        if tensor in _TOP:
            return _TOP[tensor]
        if tensor == "lm_head.weight":
            return "" if self.is_tied else "output.weight"
        match = _LAYER.fullmatch(tensor)
        if match and match[2] in self.kind.parts:
            return f"blk.{int(match[1])}.{self.kind.parts[match[2]]}.{match[3]}"
        if tensor.endswith("rotary_emb.inv_freq"):
            return ""
        raise Refusal(f'the tensor "{tensor[:100]}" is not one of a {self.kind.architecture}')

    def check_whole(self, names: set[str]) -> None:
        """Raise Refusal when a tensor is missing."""
        num_layers = self.count("num_hidden_layers")
        if num_layers > _MOST_LAYERS:
            raise Refusal("config.json says that there are more layers than any model has")
        if any(name.startswith("blk.") and int(name.split(".")[1]) >= num_layers for name in names):
            raise Refusal("the folder has tensors of more layers than config.json says")
        wanted = {*_TOP.values(), *(() if self.is_tied else ("output.weight",))}
        wanted |= {f"blk.{number}.{part}.weight" for number in range(num_layers) for part in _REQUIRED}
        if missing := sorted(wanted - names):
            raise Refusal(f"{len(missing)} tensors are missing, the first is {missing[0]}: are all .safetensors files there?")


_LLAMA3 = (("factor", 8.0), ("low_freq_factor", 1.0), ("high_freq_factor", 4.0))
