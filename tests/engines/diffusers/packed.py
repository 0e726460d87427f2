"""A denoiser as GGUF, and a folder with the same numbers: `python packed.py SAFETENSORS FOLDER PART OUT KIND…`.

OUT/KIND.gguf is written for each kind, and OUT/KIND: the folder with the weights that the file has. Tensors whose rows do not
fill blocks of the kind stay as 32-bit numbers, as converters leave them.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

from serow.library.conversion.ggml import BLOCKS, F32, Ggml


def pack(tensor: Any, kind: gguf.GGMLQuantizationType) -> Any:
    """Rows as blocks of a kind, of which Python's library can't write all: those come from the engine's own."""
    if not kind.name.endswith("_K"):
        return gguf.quants.quantize(tensor, kind)
    BLOCKS.setdefault(kind.value, gguf.GGML_QUANT_SIZES[kind])
    rows, columns = tensor.shape
    data = Ggml().convert(tensor.tobytes(), F32, kind.value, rows, columns)
    return np.frombuffer(data, np.uint8).reshape(rows, -1)


def main(source: Path, folder: Path, part: str, out: Path, kinds: list[str]) -> None:
    """Write the files."""
    own = load_file(next((folder / part).glob("*.safetensors")))
    by_bytes = {tensor.astype(np.float32).tobytes(): name for name, tensor in own.items()}
    for kind in map(gguf.GGMLQuantizationType.__getitem__, kinds):
        writer = gguf.GGUFWriter(out / f"{kind.name}.gguf", "sd1")
        unpacked = {}
        for name, tensor in load_file(source).items():
            tensor = tensor.astype(np.float32)
            plain = tensor
            if tensor.ndim == 2 and tensor.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0:
                packed = pack(tensor, kind)
                plain = gguf.quants.dequantize(packed, kind).reshape(tensor.shape).astype(np.float32)
                writer.add_tensor(name, packed, raw_dtype=kind)
            else:
                writer.add_tensor(name, tensor)
            unpacked[by_bytes[tensor.tobytes()]] = plain
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        target = Path(shutil.copytree(folder, out / kind.name))
        save_file(unpacked, next((target / part).glob("*.safetensors")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), sys.argv[5:])
