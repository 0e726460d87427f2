"""A text model's folder of transformers: config.json, a tokenizer, *.safetensors; a GGUF is made of it (LIB-32)."""

from collections.abc import Iterable, Mapping
from typing import Any

from serow.errors import ModelFileError

CONFIG, WEIGHTS = "config.json", ".safetensors"
CONVERTED = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Gemma3ForCausalLM")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model")
_READ = (CONFIG, *_TOKENIZERS, "tokenizer_config.json", "chat_template.jinja")
_BESIDE = (  # what lies in such folders and says nothing that is needed
    *("generation_config.json", "special_tokens_map.json", "model.safetensors.index.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "preprocessor_config.json", "processor_config.json"),
)
_HINT = "convert it with llama.cpp's convert_hf_to_gguf.py, and give the .gguf file"


def is_one(paths: Iterable[str]) -> bool:
    """Whether files are such a folder's."""
    names = set(paths)
    return CONFIG in names and any(name.endswith(WEIGHTS) for name in names)


def is_read(path: str) -> bool:
    """Whether a file of the folder is read for the conversion."""
    return path in _READ or path.endswith(WEIGHTS)


def belongs(path: str) -> bool:
    """Whether a file is known to lie in such a folder."""
    return is_read(path) or path in _BESIDE


def check(files: Mapping[str, str], config: Any) -> None:
    """Refuse a folder that no GGUF is made of, in words that say what to do; raises ModelFileError."""
    names = config.get("architectures") if isinstance(config, dict) else None
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else "unknown"
    if name not in CONVERTED:
        raise ModelFileError(f'unsupported architecture "{name[:80]}"', hint=_HINT)
    if not set(_TOKENIZERS) & set(files):
        raise ModelFileError("the folder has no tokenizer: tokenizer.json or tokenizer.model is needed")
    for path in files:
        if not belongs(path):
            raise ModelFileError(f"{path} is not a file of a text model's folder", hint=_HINT)
