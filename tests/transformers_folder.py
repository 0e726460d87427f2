"""A GGUF turned back into the folder of transformers that it could have been made of."""

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_PARTS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_NORMS = {"ffn_norm": "post_attention_layernorm"}
_GEMMA_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "gemma3": "Gemma3ForCausalLM"}
_SPLITS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [{"type": "ByteLevel", "use_regex": True}],
    "smollm": [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "use_regex": True}],
    "qwen2": [
        {
            "type": "Split",
            "pattern": {
                "Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            },
        },
        {"type": "ByteLevel", "use_regex": False},
    ],
}


def folder(source: Path, target: Path, *, dtype: str = "F16", num_files: int = 1) -> Path:
    """Write the folder; returns it."""
    target.mkdir(parents=True)
    reader = GGUFReader(source)
    facts = {key: field.contents() for key, field in reader.fields.items()}
    architecture = facts["general.architecture"]
    config = _config(architecture, facts, {tensor.name for tensor in reader.tensors})
    (target / "config.json").write_text(json.dumps(config))
    _tokenizer(target, facts)
    tensors = dict(_tensors(reader, architecture, config))
    names = sorted(tensors)
    for number in range(num_files):
        path = target / f"model-{number + 1:05}-of-{num_files:05}.safetensors"
        safetensors(path, {name: tensors[name] for name in names[number::num_files]}, dtype)
    return target


def _config(architecture: str, facts: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    def fact(key: str, default: Any = None) -> Any:
        return facts.get(f"{architecture}.{key}", default)

    heads = fact("attention.head_count")
    found = {
        "architectures": [CLASSES[architecture]],
        "hidden_size": fact("embedding_length"),
        "intermediate_size": fact("feed_forward_length"),
        "num_hidden_layers": fact("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": fact("attention.head_count_kv", heads),
        "head_dim": fact("attention.key_length") or fact("embedding_length") // heads,
        "max_position_embeddings": fact("context_length"),
        "rms_norm_eps": fact("attention.layer_norm_rms_epsilon"),
        "rope_theta": fact("rope.freq_base", 10000.0),
        "sliding_window": fact("attention.sliding_window"),
        "tie_word_embeddings": "output.weight" not in names,
        "eos_token_id": facts.get("tokenizer.ggml.eos_token_id"),
        "bos_token_id": facts.get("tokenizer.ggml.bos_token_id"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _tokenizer(target: Path, facts: Mapping[str, Any]) -> None:
    tokens, types = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    added = [
        {"id": number, "content": text, "special": kind == 3}
        for number, (text, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (3, 4)
    ]
    settings = {name: facts[f"tokenizer.ggml.{name}"] for name in _FLAGS if f"tokenizer.ggml.{name}" in facts}
    for short, name in {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}.items():
        if (number := facts.get(f"tokenizer.ggml.{name}_token_id")) is not None:
            settings[f"{short}_token"] = {"content": tokens[number]} if short == "eos" else tokens[number]
    settings["chat_template"] = facts.get("tokenizer.chat_template")
    (target / "tokenizer_config.json").write_text(json.dumps(settings))
    found: dict[str, Any] = {"added_tokens": added, "model": {"type": "BPE"}}
    if facts["tokenizer.ggml.model"] == "llama":
        (target / "tokenizer.model").write_bytes(b"".join(map(_piece, tokens, facts["tokenizer.ggml.scores"], types)))
    else:
        steps = _SPLITS[facts.get("tokenizer.ggml.pre", "gpt-2").replace("default", "gpt-2")]
        found["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps} if len(steps) > 1 else steps[0]
        known = {text: number for number, (text, kind) in enumerate(zip(tokens, types, strict=True)) if kind == 1}
        found["model"] |= {"vocab": known, "merges": [merge.split(" ") for merge in facts["tokenizer.ggml.merges"]]}
    (target / "tokenizer.json").write_text(json.dumps(found))


_FLAGS = ("add_bos_token", "add_eos_token")


def _piece(text: str, score: float, kind: int) -> bytes:
    """A piece of a SentencePiece model."""
    data = text.encode()
    body = b"\x0a" + _varint(len(data)) + data + b"\x15" + struct.pack("<f", score) + b"\x18" + _varint(kind)
    return b"\x0a" + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _tensors(reader: GGUFReader, architecture: str, config: Mapping[str, Any]) -> Any:
    parts = {**_PARTS, **(_GEMMA_NORMS if architecture == "gemma3" else _NORMS)}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        name, _, kind = tensor.name.rpartition(".")
        match = re.fullmatch(r"blk\.(\d+)\.(\w+)", name)
        if name == "rope_freqs":
            continue
        if architecture == "llama" and match and match[2] in ("attn_q", "attn_k"):
            heads = config["num_attention_heads" if match[2] == "attn_q" else "num_key_value_heads"]
            values = _unpermuted(values, heads)
        if architecture == "gemma3" and name.endswith("_norm"):
            values = values - 1
        yield f"model.layers.{match[1]}.{parts[match[2]]}.{kind}" if match else f"{_TOP[name]}.{kind}", values


def _unpermuted(values: Any, heads: int) -> Any:
    rows = values.shape[0]
    return values.reshape(heads, rows // heads // 2, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def safetensors(path: Path, tensors: Mapping[str, Any], dtype: str) -> None:
    """Write a file of tensors."""
    head, data, at = {}, [], 0
    for name, values in tensors.items():
        raw = _as(values, dtype)
        head[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [at, at + len(raw)]}
        data.append(raw)
        at += len(raw)
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def _as(values: Any, dtype: str) -> bytes:
    if dtype == "BF16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
    return np.ascontiguousarray(values, {"F16": np.float16, "F32": np.float32}[dtype]).tobytes()
