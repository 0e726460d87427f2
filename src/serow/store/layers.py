"""How much memory the layers of a model take, from the list of a GGUF's tensors: what a device holds is whole layers."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serow.store.ggml import TENSOR_TYPES
from serow.store.gguf import Tensor

_BLOCK = re.compile(r"(?:\w+\.)?blk\.(\d{1,5})\.")
_INPUT = ("token_embd", "token_types", "position_embd", "per_layer_token_embd")
_PACKED = 32  # numbers that share a scale
_BYTES = {kind.name: (kind.block_size, kind.block_bytes) for kind in TENSOR_TYPES.values()}


@dataclass(frozen=True)
class Layers:
    """Bytes of each block's weights and of its keys and values for one token (f16); `windows`: tokens it looks back, 0: all.

    `output` follows the last block as a layer of its own; `input` stays in main memory.
    """

    blocks: tuple[int, ...] = ()
    output: int = 0
    input: int = 0
    cache: tuple[int, ...] = ()
    windows: tuple[int, ...] = ()
    width: int = 0  # numbers that one token of a prompt takes on its way through a block
    heads: int = 0  # of attention, the most of any block
    head_sizes: tuple[int, ...] = ()  # numbers of a key, and of a value, of one head

    @property
    def packs_cache(self) -> bool:
        """Whether keys and values can be kept in fewer bits: blocks of them, with a scale each, that heads don't share."""
        return all(size % _PACKED == 0 for size in self.head_sizes)

    @property
    def count(self) -> int:
        """How many layers a device can hold, the output one of them; 0 where the file tells nothing of layers."""
        return len(self.blocks) + 1 if self.blocks else 0


def weigh(
    tensors: Iterable[Tensor],
    cache: Sequence[int],
    windows: Sequence[int],
    width: int = 0,
    heads: int = 0,
    head_sizes: Sequence[int] = (),
) -> Layers:
    """The layers of a model whose blocks have such a cache; tensors of blocks that it does not count belong to the output."""
    blocks, output, embeddings = Counter[int](), 0, 0
    has_output = False
    for tensor in tensors:
        size = tensor_bytes(tensor)
        match = _BLOCK.match(tensor.name)
        if match and int(match[1]) < len(cache):
            blocks[int(match[1])] += size
        elif tensor.name.startswith(_INPUT):
            embeddings += size
        else:
            has_output = has_output or tensor.name == "output.weight"
            output += size
    tied = 0 if has_output else embeddings  # the output multiplies by the input's table: the device gets its own
    each = tuple(blocks[number] for number in range(len(cache)))
    return Layers(each, output + tied, embeddings, tuple(cache), tuple(windows), width, heads, tuple(head_sizes))


def tensor_bytes(tensor: Tensor) -> int:
    """What a tensor takes in the file, and in memory."""
    block_size, block_bytes = _BYTES[tensor.type]
    return tensor.size // block_size * block_bytes
