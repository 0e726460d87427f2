"""GGUF files that only Ollama reads: its own architectures, or an eye inside the model's file (LIB-39).

llama.cpp refuses them, or reads only a part. They are recognised before an engine starts, and before they are pulled.
"""

from collections.abc import Mapping
from typing import Any

from serow.store.weights import Weights

_OWN = {  # architectures that llama.cpp has under another name, or not at all; what works instead, at Hugging Face
    "gptoss": "ggml-org/gpt-oss-20b-GGUF",
    "qwen25vl": "ggml-org/Qwen2.5-VL-7B-Instruct-GGUF",
    "olmo3": "unsloth/Olmo-3-7B-Instruct-GGUF",
    "glm4moelite": "unsloth/GLM-4.7-Flash-GGUF",
    "deepseekocr": "ggml-org/DeepSeek-OCR-GGUF",
    "glmocr": "ggml-org/GLM-OCR-GGUF",
    "laguna": "",
    "embeddinggemma": "ggml-org/embeddinggemma-300M-GGUF",
}
_WITH_EYES = {  # architectures that llama.cpp reads, but for the eye inside the same file
    "gemma3": "ggml-org/gemma-3-4b-it-GGUF",
    "gemma3n": "ggml-org/gemma-3n-E4B-it-GGUF",
    "gemma4": "ggml-org/gemma-4-E4B-it-GGUF",
    "mistral3": "ggml-org/Mistral-Small-3.1-24B-Instruct-2503-GGUF",
    "mllama": "",
    "qwen3vl": "Qwen/Qwen3-VL-8B-Instruct-GGUF",
    "qwen3vlmoe": "Qwen/Qwen3-VL-30B-A3B-Instruct-GGUF",
    "qwen35": "unsloth/Qwen3.5-9B-GGUF",
    "qwen35moe": "unsloth/Qwen3.5-35B-A3B-GGUF",
    "llama4": "ggml-org/Llama-4-Scout-17B-16E-Instruct-GGUF",
    "lfm2": "LiquidAI/LFM2-VL-1.6B-GGUF",
}
SUSPECTS = frozenset({*_OWN, *_WITH_EYES})


def refusal(name: str, weights: Weights) -> str:
    """Why a model can't be run, and what to pull instead; "" for one that can."""
    return _words(name, weights.architecture, has_eye=weights.has_vision or weights.has_vision_tensors)


def refusal_of_head(name: str, metadata: Mapping[str, Any]) -> str:
    """The same from the beginning of a file, before the rest is fetched."""
    architecture = metadata.get("general.architecture")
    has_eye = any(key.startswith(f"{architecture}.vision.") for key in metadata)
    return _words(name, architecture, has_eye=has_eye) if isinstance(architecture, str) else ""


def _words(name: str, architecture: str, *, has_eye: bool) -> str:
    if architecture not in _OWN and not (has_eye and architecture in _WITH_EYES):
        return ""
    other = _OWN.get(architecture) or _WITH_EYES.get(architecture, "")
    instead = f": hf.co/{other} is one that works" if other else ": look for its GGUF at hf.co"
    return f"{name} is stored in a layout that only Ollama reads{instead}"
