"""The process that quantizes: llama.cpp's rules and its own functions, from the wheel of the engine.

usage: python -m serow.library.conversion.quantizer SOURCE TARGET TYPE

The file was checked before; here it is walked through as it is, its metadata copied byte for byte but for the type.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from serow.library.conversion.ggml import BF16, BLOCKS, F16, F32, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, Ggml
from serow.library.conversion.gguf_file import Refusal, Source, Tensor, head, read, u32
from serow.library.conversion.process import told

_CHUNK = 4 << 20  # numbers that are quantized at once
_FALLBACKS = {Q4_K: Q5_0, Q5_K: Q5_1, Q6_K: Q8_0, Q5_0: F16, Q5_1: F16, Q8_0: F16}  # for rows that don't fit the blocks
_TYPES = {"F32": (F32, 0), "F16": (F16, 1), "Q8_0": (Q8_0, 7), "Q4_K_S": (Q4_K, 14), "Q4_K_M": (Q4_K, 15)}  # and file types
_KEPT = (  # weights that llama.cpp never quantizes: small, and much depends on them
    *("_norm.weight", "ffn_gate_inp.weight", "altup", "laurel", "per_layer_model_proj", "position_embd.weight"),
    *("token_types.weight", "ssm_conv1d.weight", "shortconv.conv.weight", "attn_rel_b.weight", "time_mix_"),
)


class Rules:
    """Which type each tensor gets: llama.cpp's rules (`llama-quant.cpp`) for the types that can be asked for."""

    def __init__(self, source: Source, wanted: str) -> None:
        self._wanted = wanted
        self._base = _TYPES[wanted][0]
        self._has_output = any(tensor.name == "output.weight" for tensor in source.tensors)
        self._num_experts = source.number(f"{source.architecture}.expert_count")
        names = [tensor.name for tensor in source.tensors]
        self._num_values = sum(name.endswith(("attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight")) for name in names)
        self._num_downs = sum("ffn_down" in name and name.endswith("weight") for name in names)
        self._value = self._down = 0

    def choose(self, tensor: Tensor) -> int:
        """The type of one tensor; to be asked in the file's order."""
        if len(tensor.shape) < 2 or not tensor.name.endswith("weight") or any(part in tensor.name for part in _KEPT):
            return tensor.kind
        if self._base in (F32, F16):
            return self._base
        return _fitting(self._type(tensor), tensor.shape[0])

    def _type(self, tensor: Tensor) -> int:
        name = tensor.name
        if name == "output.weight" or (not self._has_output and name == "token_embd.weight"):
            return Q8_0 if self._base == Q8_0 or tensor.shape[0] % BLOCKS[self._base][0] else Q6_K
        if self._base == Q8_0:
            return Q8_0
        if name.endswith("attn_v.weight"):
            number, self._value = self._value, self._value + 1
            return Q8_0 if self._num_experts == 8 else self._more(number, self._num_values, number < 4)
        if "ffn_down" in name:
            number, self._down = self._down, self._down + 1
            return self._more(number, self._num_downs, number < self._num_downs // 8)
        if name.endswith("attn_qkv.weight"):
            self._value += 1
            return Q5_K if self._wanted == "Q4_K_M" else self._base
        if self._num_experts == 8 and name.endswith(("attn_k.weight", "attn_output.weight")):
            return Q8_0 if name.endswith("attn_k.weight") else Q5_K
        return self._base

    def _more(self, number: int, count: int, is_early: bool) -> int:
        """More bits for the first and last layers, and for every third between them; a few for the first of the small type."""
        if self._wanted == "Q4_K_M":
            eighth = count // 8
            return Q6_K if number < eighth or number >= 7 * count // 8 or (number - eighth) % 3 == 2 else self._base
        return Q5_K if is_early else self._base


def _fitting(kind: int, columns: int) -> int:
    while columns % BLOCKS[kind][0]:
        kind = _FALLBACKS[kind]
    return kind


def _head(source: Source, kinds: list[int], file_type: int) -> bytes:
    """The new file's head: the same metadata but for the type, tensors at their new places."""
    metadata = dict(source.metadata)
    metadata["general.file_type"] = u32(file_type)
    metadata["general.quantization_version"] = u32(2)
    tensors = [Tensor(tensor.name, tensor.shape, kind) for tensor, kind in zip(source.tensors, kinds, strict=True)]
    return head(metadata, tensors, source.alignment, source.version)


def packed(ggml: Ggml, file: BinaryIO, tensor: Tensor, kind: int) -> Iterator[bytes]:
    """The next tensor of a file, packed in another way, some rows at a time."""
    columns = tensor.shape[0] if tensor.shape else 1
    rows, step = tensor.count // max(1, columns), max(1, _CHUNK // max(1, columns))
    for first in range(0, rows, step):
        some = min(step, rows - first)
        data = file.read(some * columns // BLOCKS[tensor.kind][0] * BLOCKS[tensor.kind][1])
        yield ggml.convert(data, tensor.kind, kind, some, columns) if kind != tensor.kind else data


def quantize(source_path: Path, target_path: Path, wanted: str) -> Iterator[int]:
    """Write the quantized file; yields how many bytes of the source are done."""
    ggml = Ggml()
    with source_path.open("rb") as file, target_path.open("wb") as target:
        source = read(file)
        if any(tensor.kind not in (F32, F16, BF16) for tensor in source.tensors):
            raise Refusal("quantization is only supported for F16, BF16 and F32 models")
        rules = Rules(source, wanted)
        kinds = [rules.choose(tensor) for tensor in source.tensors]
        target.write(_head(source, kinds, _TYPES[wanted][1]))
        for tensor, kind in zip(source.tensors, kinds, strict=True):
            file.seek(source.start + tensor.offset)
            written = 0
            for data in packed(ggml, file, tensor, kind):
                written += target.write(data)
                yield file.tell()
            target.write(bytes(-written % source.alignment))
        target.flush()
        os.fsync(target.fileno())


def main(source: str, target: str, wanted: str) -> Iterator[int]:
    """What the process does."""
    return quantize(Path(source), Path(target), wanted)


if __name__ == "__main__":
    sys.exit(told(main))
