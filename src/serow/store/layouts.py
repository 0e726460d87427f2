"""GGUF files that only Ollama reads: its own architectures, or its own keys and tensors within a known one (LIB-39).

llama.cpp refuses them, or reads only a part. They are recognised before an engine starts, and before they are pulled. The
marks are those by which Ollama itself knows them, in `llama/compat/llama-ollama-compat.cpp` of its sources.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from serow.store.gguf import Gguf

_EYES = ("v.", "mm.")  # what the names of an eye's tensors begin with


@dataclass(frozen=True)
class _Head:
    """What is known of a file; of one that was not read to the end of its head nothing can be missing."""

    architecture: str
    gguf: Gguf
    is_whole: bool

    def has(self, *keys: str) -> bool:
        """Whether one of the architecture's keys is there."""
        return any(f"{self.architecture}.{key}" in self.gguf.metadata for key in keys)

    def lacks(self, key: str) -> bool:
        """Whether a key of the architecture, which llama.cpp needs, is missing."""
        return self.is_whole and not self.has(key)

    def says(self, key: str, value: Any) -> bool:
        return bool(self.gguf.metadata.get(key) == value)

    def holds(self, *beginnings: str) -> bool:
        """Whether one of the tensors' names begins so."""
        return any(tensor.name.startswith(beginnings) for tensor in self.gguf.tensors)

    def ends(self, ending: str) -> bool:
        """Whether one of the tensors' names ends so."""
        return any(tensor.name.endswith(ending) for tensor in self.gguf.tensors)

    def rows(self, name: str) -> int:
        """How many rows a tensor has; 0 for one that is not there."""
        return next((tensor.shape[-1] for tensor in self.gguf.tensors if tensor.name == name), 0)


def _gemma3(head: _Head) -> bool:
    keys = ("mm.tokens_per_image", "rope.global.freq_base", "rope.local.freq_base")
    return head.has(*keys) or head.holds(*_EYES, "dense.0.weight") or head.lacks("attention.layer_norm_rms_epsilon")


def _gemma3n(head: _Head) -> bool:
    rows, others = head.rows("token_embd.weight"), head.rows("per_layer_token_embd.weight")
    return bool(rows and others and rows != others)


def _gemma4(head: _Head) -> bool:
    return head.holds(*_EYES, "a.", "model.vision_tower.") or head.says("tokenizer.ggml.model", "llama")


def _qwen35(head: _Head) -> bool:
    keys = ("vision.block_count", "image_token_id", "ssm.v_head_reordered", "rope.mrope_interleaved")
    return head.has(*keys) or head.holds("v.", "mtp.")


def _lfm2(head: _Head) -> bool:
    return head.is_whole and head.holds("output_norm.weight") and not head.holds("token_embd_norm.weight")


def _mistral3(head: _Head) -> bool:
    keys = ("rope.scaling.beta_fast", "rope.scaling.mscale_all_dim", "rope.scaling_beta", "vision.block_count")
    return head.has(*keys) or head.holds(*_EYES)


def _laguna(head: _Head) -> bool:
    return head.has("rope.swa.dimension_count", "rope.swa.freq_base") or head.holds("blk.0.attn_g.weight")


def _nemotron(head: _Head) -> bool:
    return head.holds("blk.0.ffn_latent_in", "blk.1.ffn_latent_in", "mtp.")


def _qwen3vl(head: _Head) -> bool:
    return head.lacks("rope.dimension_sections")


def _has_eye(head: _Head) -> bool:
    return head.has("vision.block_count") or head.holds(*_EYES)


def _is_own(_: _Head) -> bool:
    """The architecture has another name in llama.cpp, or is not known there."""
    return True


_LAYOUTS: dict[str, tuple[Callable[[_Head], bool], str]] = {  # how to know it, and what works instead, at Hugging Face
    "gptoss": (_is_own, "ggml-org/gpt-oss-20b-GGUF"),
    "qwen25vl": (_is_own, "ggml-org/Qwen2.5-VL-7B-Instruct-GGUF"),
    "olmo3": (_is_own, "unsloth/Olmo-3-7B-Instruct-GGUF"),
    "glm4moelite": (_is_own, "unsloth/GLM-4.7-Flash-GGUF"),
    "deepseekocr": (_is_own, "ggml-org/DeepSeek-OCR-GGUF"),
    "glmocr": (_is_own, "ggml-org/GLM-OCR-GGUF"),
    "mllama": (_is_own, ""),
    "nemotron_h_omni": (_is_own, ""),
    "gemma3": (_gemma3, "ggml-org/gemma-3-4b-it-GGUF"),
    "gemma3n": (_gemma3n, "ggml-org/gemma-3n-E4B-it-GGUF"),
    "gemma4": (_gemma4, "ggml-org/gemma-4-E4B-it-GGUF"),
    "mistral3": (_mistral3, "ggml-org/Mistral-Small-3.1-24B-Instruct-2503-GGUF"),
    "qwen3vl": (_qwen3vl, "Qwen/Qwen3-VL-8B-Instruct-GGUF"),
    "qwen3vlmoe": (_qwen3vl, "Qwen/Qwen3-VL-30B-A3B-Instruct-GGUF"),
    "qwen3next": (lambda head: head.ends(".ssm_dt"), "unsloth/Qwen3-Next-80B-A3B-Instruct-GGUF"),
    "qwen35": (_qwen35, "unsloth/Qwen3.5-9B-GGUF"),
    "qwen35moe": (_qwen35, "unsloth/Qwen3.5-35B-A3B-GGUF"),
    "llama4": (_has_eye, "ggml-org/Llama-4-Scout-17B-16E-Instruct-GGUF"),
    "lfm2": (_lfm2, "LiquidAI/LFM2-1.2B-GGUF"),
    "laguna": (_laguna, ""),
    "nemotron_h_moe": (_nemotron, "unsloth/Nemotron-3-Nano-30B-A3B-GGUF"),
}
_EMBEDDING = "ggml-org/embeddinggemma-300M-GGUF"  # of a gemma3 that embeds
SUSPECTS = frozenset({*_LAYOUTS, "embeddinggemma"})


def instead_of(gguf: Gguf, *, is_whole: bool = True) -> str | None:
    """What to pull instead of a file that only Ollama reads, "" where nothing is known; None for a file that runs here.

    `is_whole`: whether that is all of the file's head, or its beginning.
    """
    architecture = gguf.metadata.get("general.architecture")
    is_it, other = _LAYOUTS.get(architecture, (None, "")) if isinstance(architecture, str) else (None, "")
    if is_it is None or not is_it(head := _Head(str(architecture), gguf, is_whole)):
        return None
    return _EMBEDDING if head.holds("dense.0.weight") and architecture == "gemma3" else other


def refusal(name: str, instead: str | None) -> str:
    """Why a model can't be run, and what to pull instead; "" for one that can."""
    if instead is None:
        return ""
    other = f": hf.co/{instead} is one of its family that works" if instead else ": look for its GGUF at hf.co"
    return f"{name} is stored in a layout that only Ollama reads{other}"
