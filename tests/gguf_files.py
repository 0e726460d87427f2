"""Small model files that work: the zoo's with other metadata, adapters for it, and one that embeds texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def changed(source: Path, target: Path, metadata: Mapping[str, str | bool | int]) -> Path:
    """A copy of a model file with other metadata."""
    reader, writer = GGUFReader(source), GGUFWriter(target, "qwen3")
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture" or key in metadata:
            continue
        kind = field.types[0]
        writer.add_key_value(key, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)
    kinds = {str: GGUFValueType.STRING, bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32}
    for key, value in metadata.items():
        writer.add_key_value(key, value, kinds[type(value)])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    return _written(writer, target)


def lora(
    source: Path,
    target: Path,
    *,
    parts: Sequence[str] = ("blk.0.attn_q", "blk.0.ffn_gate", "blk.1.ffn_gate"),
    architecture: str = "qwen3",
    extra_rows: int = 0,
    extra_columns: int = 0,
    lacks: str = "",
    kind: str = "lora",
    seed: int = 0,
) -> Path:
    """An adapter for some tensors of a model that changes much; the rest makes it one that does not fit."""
    shapes = {tensor.name: [int(side) for side in tensor.shape] for tensor in GGUFReader(source).tensors}
    writer, random = GGUFWriter(target, architecture), np.random.RandomState(seed)
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", 4.0)
    for part in parts:
        columns, rows = shapes.get(f"{part}.weight", (8, 8))
        pair = {"lora_a": (4, columns + extra_columns), "lora_b": (rows + extra_rows, 4)}
        for half, shape in pair.items():
            if half != lacks:
                writer.add_tensor(f"{part}.weight.{half}", (random.randn(*shape) * 3).astype(np.float32))
    return _written(writer, target)


def bert(target: Path, width: int = 32) -> Path:
    """A model that embeds texts, with random weights."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"\u2581{letter}" for letter in _LETTERS), *_LETTERS]
    writer = GGUFWriter(target, "bert")
    facts: dict[str, Any] = {"context_length": 64, "embedding_length": width, "feed_forward_length": 64, "block_count": 1}
    for name, value in facts.items():
        writer.add_uint32(f"bert.{name}", value)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_uint32("bert.pooling_type", 1)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(words)
    writer.add_token_types([3] * 5 + [1] * (len(words) - 5))
    writer.add_uint32("tokenizer.ggml.token_type_count", 2)
    for name, token in {"bos": 2, "eos": 3, "unknown": 1, "seperator": 3, "padding": 0, "mask": 4}.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", token)
    for name, shape in _bert_shapes(len(words), width).items():
        writer.add_tensor(name, np.full(shape, 0.02 if name.endswith("weight") else 0, np.float32))
    return _written(writer, target)


def _bert_shapes(num_words: int, width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (num_words, width),
        "position_embd.weight": (64, width),
        "token_types.weight": (2, width),
        "blk.0.ffn_up.weight": (64, width),
        "blk.0.ffn_up.bias": (64,),
        "blk.0.ffn_down.weight": (width, 64),
        "blk.0.ffn_down.bias": (width,),
    }
    for norm in ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        shapes |= {f"blk.0.{part}.weight": (width, width), f"blk.0.{part}.bias": (width,)}
    return shapes


def _written(writer: GGUFWriter, target: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def split(source: Path, folder: Path, count: int) -> list[Path]:
    """A model file in several parts, as llama.cpp's `llama-gguf-split` writes them."""
    reader = GGUFReader(source)
    size = -(-len(reader.tensors) // count)
    paths = [folder / f"{source.stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    for number, path in enumerate(paths):
        writer = GGUFWriter(path, "")
        writer.kv_data[0].clear()
        for key, field in reader.fields.items() if number == 0 else ():
            if not key.startswith("GGUF."):
                kind = field.types[0]
                writer.add_key_value(key, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in reader.tensors[number * size : (number + 1) * size]:
            writer.add_tensor(tensor.name, tensor.data)
        _written(writer, path)
    return paths


def with_chat_template(weights: bytes, template: str) -> bytes:
    """The model file with another chat template of the same length."""
    start = weights.index(b"tokenizer.chat_template") + len(b"tokenizer.chat_template") + 4
    length = int.from_bytes(weights[start : start + 8], "little")
    assert len(template) <= length
    return weights[: start + 8] + template.ljust(length).encode() + weights[start + 8 + length :]
