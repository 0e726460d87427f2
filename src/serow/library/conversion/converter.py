"""The process that makes a GGUF of a text model's folder of transformers: config.json, a tokenizer, *.safetensors.

usage: python -m serow.library.conversion.converter TARGET NAME PATH [NAME PATH …]

The names are those of the folder. Matrices keep their 16 bits, those of 32 become F16; all else is F32. The headers of the
safetensors files were checked before (`store/safetensors.py`).
"""

import json
import os
import struct
import sys
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from serow.library.conversion.architectures import Settings
from serow.library.conversion.ggml import BF16, F16, F32, Ggml
from serow.library.conversion.gguf_file import ALIGNMENT, Refusal, Tensor, head, string, u32
from serow.library.conversion.process import told
from serow.library.conversion.quantizer import packed
from serow.library.conversion.vocabulary import Tokenizer

_DTYPES = {"F32": F32, "F16": F16, "BF16": BF16}
_FILE_TYPES = {F32: 0, F16: 1, BF16: 32}
_MOST_SIDES = 2  # of a tensor
_SMALL = 256 << 20  # bytes of a file that is read as a whole; the largest tokenizers take 40 MB


@dataclass(frozen=True)
class Found:
    """A tensor of a safetensors file: outermost dimension first, where its bytes lie."""

    path: Path
    start: int
    dtype: int
    shape: tuple[int, ...]

    def tensor(self, name: str, kind: int) -> Tensor:
        """The same as GGUF has it."""
        return Tensor(name, self.shape[::-1], kind)


def tensors_of(path: Path) -> Iterator[tuple[str, Found]]:
    """The tensors of a file, by name; raises Refusal."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    for name, entry in entries.items():
        if name != "__metadata__":
            if entry["dtype"] not in _DTYPES:
                raise Refusal(f'the tensor "{name[:100]}" is {entry["dtype"]}: only F32, F16 and BF16 are converted')
            if not 1 <= len(entry["shape"]) <= _MOST_SIDES:
                raise Refusal(f'the tensor "{name[:100]}" has more dimensions than a text model has')
            yield name, Found(path, 8 + length + entry["data_offsets"][0], _DTYPES[entry["dtype"]], tuple(entry["shape"]))


class Conversion:
    """One model: what is read, and how it is written."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._config = self._json("config.json")
        self.settings = Settings(self._config)
        self._ggml = Ggml()
        self.found: dict[str, Found] = {}
        for name, path in sorted(files.items()):
            for tensor, each in tensors_of(path) if name.endswith(".safetensors") else ():
                if new := self.settings.name(tensor):
                    self.found[new] = each
        self.settings.check_whole(set(self.found))

    def _json(self, name: str) -> dict[str, Any]:
        """A file of JSON; nothing where it is not there."""
        try:
            found = json.loads(self._read(name) or b"{}")
        except (ValueError, RecursionError):
            raise Refusal(f"{name} is no JSON") from None
        if not isinstance(found, dict):
            raise Refusal(f"{name} is no object")
        return found

    def _read(self, name: str) -> bytes:
        if name not in self._files:
            return b""
        if self._files[name].stat().st_size > _SMALL:
            raise Refusal(f"{name} is larger than {_SMALL >> 20} MB")
        return self._files[name].read_bytes()

    def metadata(self) -> dict[str, bytes]:
        """What stands before the tensors."""
        kind = self.settings.kind
        template = self._read("chat_template.jinja").decode("utf-8", "replace")
        tokenizer = Tokenizer(
            self._json("tokenizer.json"), self._json("tokenizer_config.json"), self._read("tokenizer.model"), template
        )
        rows = self.found["token_embd.weight"].shape[0]
        return {
            "general.architecture": string(kind.architecture),
            "general.type": string("model"),
            "general.file_type": u32(_FILE_TYPES[self._kind(self.found["token_embd.weight"])]),
            "general.quantization_version": u32(2),
            **self.settings.metadata,
            f"{kind.architecture}.vocab_size": u32(rows),
            **tokenizer.metadata(rows, self._config, adds_space=kind.architecture != "gemma3"),
        }

    def _kind(self, found: Found) -> int:
        """How a tensor is written."""
        if len(found.shape) < 2:
            return F32
        return F16 if found.dtype == F32 else found.dtype

    def write(self, target: BinaryIO) -> Iterator[int]:
        """Write the file; yields how many bytes of it are done."""
        factors = self.settings.frequency_factors()
        extra = [Tensor("rope_freqs.weight", (len(factors),), F32)] if factors else []
        tensors = [found.tensor(name, self._kind(found)) for name, found in self.found.items()]
        target.write(head(self.metadata(), [*extra, *tensors]))
        if factors:
            target.write(_padded(struct.pack(f"<{len(factors)}f", *factors)))
        for tensor, found in zip(tensors, self.found.values(), strict=True):
            with self._opened(tensor, found) as file:
                for data in packed(self._ggml, file, found.tensor(tensor.name, found.dtype), tensor.kind):
                    target.write(self._shifted(tensor, data))
                    yield target.tell()
            target.write(bytes(-tensor.size % ALIGNMENT))

    def _opened(self, tensor: Tensor, found: Found) -> BinaryIO:
        """A tensor's bytes, its rows in the order that llama.cpp wants."""
        file = found.path.open("rb")
        file.seek(found.start)
        heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(tensor.name.split(".")[-2], "")
        if not (self.settings.kind.is_permuted and heads):
            return file
        with file:
            count = self.settings.count(heads, self.settings.count("num_attention_heads"))
            return BytesIO(_permuted(file.read(tensor.bytes_as(found.dtype)), found.shape[0], count))

    def _shifted(self, tensor: Tensor, data: bytes) -> bytes:
        """What a norm multiplies by, where the file has the difference from 1."""
        if not (self.settings.kind.norms_from_one and tensor.name.endswith("_norm.weight")):
            return data
        values = array("f", data)
        return array("f", (1 + value for value in values)).tobytes()


def _permuted(data: bytes, rows: int, heads: int) -> bytes:
    """The rows of each head: transformers keeps the halves of a rotation apart, llama.cpp has them side by side."""
    if rows % (2 * heads):
        raise Refusal("the rows of queries or keys are not those of whole heads")
    width, half = len(data) // rows, rows // heads // 2
    order = (head * 2 * half + side * half + number for head in range(heads) for number in range(half) for side in (0, 1))
    view = memoryview(data)
    return b"".join(view[row * width : (row + 1) * width] for row in order)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)


def main(target: str, *args: str) -> Iterator[int]:
    """What the process does."""
    files = {name: Path(path) for name, path in zip(args[::2], args[1::2], strict=True)}
    conversion = Conversion(files)
    with Path(target).open("wb") as file:
        yield from conversion.write(file)
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    sys.exit(told(main))
