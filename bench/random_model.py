"""A model file of random weights, for machines that can fetch none: it talks nonsense as fast as a real one of its size.

`python -m bench.random_model TARGET.gguf` writes 1.5 billion parameters in Q8_0, 1.6 GB; `--blocks` and others make it smaller.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter

WORDS = Path(__file__).parents[1] / "tests" / "models" / "zoo" / "lm" / "zoo-think.gguf"  # whose tokenizer it has
HEAD, HEADS, HEADS_KV = 128, 12, 2
DEVIATION = 0.02  # of the weights
_BLOCK, _BLOCK_BYTES, _LARGEST = 32, 34, 127


class Writer:
    """A file in the making, with weights of a seed."""

    def __init__(self, target: Path, blocks: int, width: int, forward: int, words: int) -> None:
        self._file = GGUFWriter(target, "qwen3")
        self._random = np.random.default_rng(1)
        self._blocks, self._width, self._forward, self._words = blocks, width, forward, words

    def write(self) -> None:
        """All of it."""
        self._add_metadata()
        self._add_tokenizer(GGUFReader(WORDS))
        self._add_weights()
        self._file.write_header_to_file()
        self._file.write_kv_data_to_file()
        self._file.write_tensors_to_file()
        self._file.close()

    def _add_metadata(self) -> None:
        file = self._file
        file.add_context_length(32768)
        file.add_embedding_length(self._width)
        file.add_block_count(self._blocks)
        file.add_feed_forward_length(self._forward)
        file.add_head_count(HEADS)
        file.add_head_count_kv(HEADS_KV)
        file.add_key_length(HEAD)
        file.add_value_length(HEAD)
        file.add_rope_dimension_count(HEAD)
        file.add_rope_freq_base(1e6)
        file.add_layer_norm_rms_eps(1e-6)
        file.add_vocab_size(self._words)
        file.add_file_type(7)

    def _add_tokenizer(self, known: GGUFReader) -> None:
        """A small one's, and as many words more as are wanted."""
        for name, field in known.fields.items():
            if not name.startswith("tokenizer."):
                continue
            value, kind = field.contents(), field.types[0]
            if name == "tokenizer.ggml.tokens":
                value = [*value, *(f"more{number}" for number in range(len(value), self._words))]
            elif name == "tokenizer.ggml.token_type":
                value = [*value, *[1] * (self._words - len(value))]
            self._file.add_key_value(name, value, kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)

    def _add_weights(self) -> None:
        width, forward, inner, inner_kv = self._width, self._forward, HEADS * HEAD, HEADS_KV * HEAD
        self._matrix("token_embd", self._words, width)
        self._ones("output_norm", width)
        for number in range(self._blocks):
            block = f"blk.{number}"
            for name, size in (("attn_norm", width), ("ffn_norm", width), ("attn_q_norm", HEAD), ("attn_k_norm", HEAD)):
                self._ones(f"{block}.{name}", size)
            self._matrix(f"{block}.attn_q", inner, width)
            self._matrix(f"{block}.attn_k", inner_kv, width)
            self._matrix(f"{block}.attn_v", inner_kv, width)
            self._matrix(f"{block}.attn_output", width, inner)
            self._matrix(f"{block}.ffn_gate", forward, width)
            self._matrix(f"{block}.ffn_up", forward, width)
            self._matrix(f"{block}.ffn_down", width, forward)

    def _matrix(self, name: str, rows: int, columns: int) -> None:
        """Blocks of 32 whole numbers and their scale, as Q8_0 has them."""
        packed: npt.NDArray[np.uint8] = np.empty((rows, columns // _BLOCK, _BLOCK_BYTES), np.uint8)
        scale = np.array([DEVIATION * 3**0.5 / _LARGEST], np.float16)
        packed[:, :, :2] = scale.view(np.uint8)
        packed[:, :, 2:] = self._random.integers(-_LARGEST, _LARGEST + 1, packed[:, :, 2:].shape, np.int8).view(np.uint8)
        self._file.add_tensor(f"{name}.weight", packed.reshape(rows, -1), raw_dtype=GGMLQuantizationType.Q8_0)

    def _ones(self, name: str, size: int) -> None:
        self._file.add_tensor(f"{name}.weight", np.ones(size, np.float32))


def main() -> None:
    """Write what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    for name, size in (("blocks", 31), ("width", 1536), ("forward", 8960), ("words", 32768)):
        parser.add_argument(f"--{name}", type=int, default=size)
    wanted = parser.parse_args()
    Writer(wanted.target, wanted.blocks, wanted.width, wanted.forward, wanted.words).write()


if __name__ == "__main__":
    main()
