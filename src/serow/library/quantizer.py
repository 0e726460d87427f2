"""The process that quantizes: llama.cpp's rules and its own functions, from the wheel of the engine.

usage: python -m serow.library.quantizer SOURCE TARGET TYPE

Says `done BYTES` as it goes on, `error …` for a file that can't be quantized, `disk …` for a disk that fails. The file was
checked before; here it is walked through as it is, its metadata copied byte for byte but for the type.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from serow.system import limits

_ALIGNMENT = 32  # bytes, unless the file says another
_CHUNK = 4 << 20  # numbers that are quantized at once
_STRING, _ARRAY, _U32 = 8, 9, 4
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of each kind of value
F32, F16, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16 = 0, 1, 6, 7, 8, 12, 13, 14, 30
_BLOCKS = {F32: (1, 4), F16: (1, 2), BF16: (1, 2), Q5_0: (32, 22), Q5_1: (32, 24), Q8_0: (32, 34)}  # numbers, bytes
_BLOCKS |= {Q4_K: (256, 144), Q5_K: (256, 176), Q6_K: (256, 210)}
_FALLBACKS = {Q4_K: Q5_0, Q5_K: Q5_1, Q6_K: Q8_0, Q5_0: F16, Q5_1: F16, Q8_0: F16}  # for rows that don't fit the blocks
_TYPES = {"F32": (F32, 0), "F16": (F16, 1), "Q8_0": (Q8_0, 7), "Q4_K_S": (Q4_K, 14), "Q4_K_M": (Q4_K, 15)}  # and file types
_KEPT = (  # weights that llama.cpp never quantizes: small, and much depends on them
    *("_norm.weight", "ffn_gate_inp.weight", "altup", "laurel", "per_layer_model_proj", "position_embd.weight"),
    *("token_types.weight", "ssm_conv1d.weight", "shortconv.conv.weight", "attn_rel_b.weight", "time_mix_"),
)


class Refusal(Exception):
    """A file that can't be quantized, in words."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the source: innermost dimension first, `offset` within the data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        count = 1
        for side in self.shape:
            count *= side
        return count

    def bytes_as(self, kind: int) -> int:
        """Its size, packed in another way."""
        per, size = _BLOCKS[kind]
        return self.count // per * size


@dataclass(frozen=True)
class Source:
    """A file walked through: its metadata as bytes by key, its tensors, where their data begins."""

    version: int
    metadata: dict[str, bytes]  # kind and value
    tensors: tuple[Tensor, ...]
    start: int
    alignment: int


class _Walker:
    """Walks through the head of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def take(self, layout: str) -> tuple[int, ...]:
        size = struct.calcsize(layout)
        data = self._file.read(size)
        if len(data) < size:
            raise Refusal("the file ends too early")
        return struct.unpack(layout, data)

    def string(self) -> bytes:
        (length,) = self.take("<Q")
        return struct.pack("<Q", length) + self._file.read(length)

    def value(self, kind: int) -> bytes:
        """The bytes of a value."""
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self._file.read(_SIZES[kind])
        inner, count = self.take("<IQ")
        head = struct.pack("<IQ", inner, count)
        if inner in _SIZES:
            return head + self._file.read(_SIZES[inner] * count)
        return head + b"".join(self.value(inner) for _ in range(count))


def read(file: BinaryIO) -> Source:
    """Walk through a GGUF's head."""
    walker = _Walker(file)
    magic, version, num_tensors, num_entries = walker.take("<IIQQ")
    if magic != int.from_bytes(b"GGUF", "little"):
        raise Refusal("the file is not in GGUF format")
    metadata: dict[str, bytes] = {}
    for _ in range(num_entries):
        key = walker.string()[8:].decode()
        (kind,) = walker.take("<I")
        metadata[key] = struct.pack("<I", kind) + walker.value(kind)
    tensors = []
    for _ in range(num_tensors):
        name = walker.string()[8:].decode()
        (sides,) = walker.take("<I")
        shape = walker.take(f"<{sides}Q")
        kind, offset = walker.take("<IQ")
        if kind not in (F32, F16, BF16):
            raise Refusal("quantization is only supported for F16, BF16 and F32 models")
        tensors.append(Tensor(name, shape, kind, offset))
    alignment = _number(metadata.get("general.alignment", b"")) or _ALIGNMENT
    return Source(version, metadata, tuple(tensors), -(-file.tell() // alignment) * alignment, alignment)


def _number(value: bytes) -> int:
    return int.from_bytes(value[4:], "little") if value else 0


class Rules:
    """Which type each tensor gets: llama.cpp's rules (`llama-quant.cpp`) for the types that can be asked for."""

    def __init__(self, source: Source, wanted: str) -> None:
        self._wanted = wanted
        self._base = _TYPES[wanted][0]
        self._has_output = any(tensor.name == "output.weight" for tensor in source.tensors)
        architecture = source.metadata.get("general.architecture", b"")[12:].decode("utf-8", "replace")
        self._num_experts = _number(source.metadata.get(f"{architecture}.expert_count", b""))
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
            return Q8_0 if self._base == Q8_0 or tensor.shape[0] % _BLOCKS[self._base][0] else Q6_K
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
    while columns % _BLOCKS[kind][0]:
        kind = _FALLBACKS[kind]
    return kind


class _Ggml:
    """llama.cpp's functions, in the library that the engine's wheel brings."""

    def __init__(self) -> None:
        import xllamacpp

        path = next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"), None) or next(
            Path(xllamacpp.__file__).parent.glob("xllamacpp*.pyd"), None
        )
        if path is None:
            raise Refusal("quantizing needs the engine of the wheel")
        try:
            self._library = ctypes.CDLL(str(path))
            self._quantize = self._library.ggml_quantize_chunk
            self._rows = {F16: self._library.ggml_fp16_to_fp32_row, BF16: self._library.ggml_bf16_to_fp32_row}
            self._halve = self._library.ggml_fp32_to_fp16_row
        except (OSError, AttributeError):
            raise Refusal("the engine of the wheel can't quantize") from None
        self._quantize.restype = ctypes.c_size_t
        self._quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
        for function in (*self._rows.values(), self._halve):
            function.restype, function.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]

    def convert(self, data: bytes, source: int, target: int, rows: int, columns: int) -> bytes:
        """Rows of numbers, packed in another way."""
        count = rows * columns
        numbers = ctypes.create_string_buffer(data, 4 * count) if source == F32 else ctypes.create_string_buffer(4 * count)
        if source != F32:
            self._rows[source](data, numbers, count)
        if target == F32:
            return numbers.raw[: 4 * count]
        per, size = _BLOCKS[target]
        packed = ctypes.create_string_buffer(count // per * size)
        if target == F16:
            self._halve(numbers, packed, count)
        else:
            self._quantize(target, numbers, packed, 0, rows, columns, None)
        return packed.raw


def _head(source: Source, kinds: list[int], file_type: int) -> bytes:
    """The new file's head: the same metadata but for the type, tensors at their new places."""
    metadata = dict(source.metadata)
    metadata["general.file_type"] = struct.pack("<II", _U32, file_type)
    metadata["general.quantization_version"] = struct.pack("<II", _U32, 2)
    head = struct.pack("<4sIQQ", b"GGUF", source.version, len(source.tensors), len(metadata))
    head += b"".join(_text(key) + value for key, value in metadata.items())
    offset = 0
    for tensor, kind in zip(source.tensors, kinds, strict=True):
        sides = len(tensor.shape)
        head += _text(tensor.name) + struct.pack(f"<I{sides}QIQ", sides, *tensor.shape, kind, offset)
        offset += -(-tensor.bytes_as(kind) // source.alignment) * source.alignment
    return head + bytes(-len(head) % source.alignment)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def quantize(source_path: Path, target_path: Path, wanted: str) -> Iterator[int]:
    """Write the quantized file; yields how many bytes of the source are done."""
    ggml = _Ggml()
    with source_path.open("rb") as file, target_path.open("wb") as target:
        source = read(file)
        rules = Rules(source, wanted)
        kinds = [rules.choose(tensor) for tensor in source.tensors]
        target.write(_head(source, kinds, _TYPES[wanted][1]))
        for tensor, kind in zip(source.tensors, kinds, strict=True):
            file.seek(source.start + tensor.offset)
            written = 0
            columns = tensor.shape[0] if tensor.shape else 1
            rows, step = tensor.count // max(1, columns), max(1, _CHUNK // max(1, columns))
            for first in range(0, rows, step):
                some = min(step, rows - first)
                data = file.read(some * columns // _BLOCKS[tensor.kind][0] * _BLOCKS[tensor.kind][1])
                if kind != tensor.kind:
                    data = ggml.convert(data, tensor.kind, kind, some, columns)
                written += target.write(data)
                yield file.tell()
            target.write(bytes(-written % source.alignment))
        target.flush()
        os.fsync(target.fileno())


def main(source: str, target: str, wanted: str) -> int:
    """Quantize, and say how it goes."""
    limits.die_with_parent()
    limits.forbid_core_files()
    try:
        for done in quantize(Path(source), Path(target), wanted):
            print("done", done, flush=True)
    except Refusal as error:
        print("error", error, flush=True)
        return 1
    except OSError as error:
        print("disk", os.strerror(error.errno or 0).lower(), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
