"""What a GGUF says about the model inside: architecture, lengths, vocabulary, memory for its context.

Keys are those of ggml's docs/gguf.md; facts are checked where somebody could divide by them or allocate by them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from serow.errors import ModelFileError
from serow.store import gguf, gguf_arrays, layouts
from serow.store.ggml import FILE_TYPES
from serow.store.gguf import Array, Gguf, LongText
from serow.store.layers import Layers, weigh

Kind = Literal["model", "projector", "adapter"]

_LARGEST = 1 << 31  # of any length or count; nothing trained comes near
_LARGEST_BLOCK_COUNT = 1 << 12
_MOST_MARKED = 1 << 18  # tokens that are not plain text; models of speech and pictures have tens of thousands
_CONTROL = (2, 3)  # token types whose text is not part of an answer: unknown, control
_WHOLE = (*_CONTROL, 4)  # and those that its maker defined besides
_FIM_KEYS = (  # the second of each is the older name
    ("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"),
    ("tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"),
    ("tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"),
)
_FIM_TEXTS = (  # prefix, suffix, middle, as llama.cpp finds them by their text in files without the keys
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
    ("<PRE>", "<SUF>", "<MID>"),
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
)
_PERIODS = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "cohere2": 4}  # the last of so many blocks looks at everything


@dataclass(frozen=True)
class Weights:
    """A model file in numbers. Lengths in tokens or numbers, `kv_bytes` for one token of context with an f16 cache."""

    kind: Kind
    architecture: str
    file_type: str  # "Q4_K_M"
    parameter_count: int
    context_length: int
    embedding_length: int
    vocab_size: int
    kv_bytes: int
    layers: Layers
    chat_template: str
    fim_tokens: tuple[int, int, int] | None
    beginning: tuple[int, ...]  # the token that a text begins with, else the one that it ends with; none where neither is told
    control_tokens: frozenset[int]
    whole_tokens: frozenset[int]
    has_pooling: bool  # it embeds texts, it does not complete them
    normalizes_vectors: bool  # to length 1
    has_vision: bool  # the vision tower is in the same file
    instead: str | None  # what to pull instead of a file that only Ollama reads; None for any other

    @property
    def parameter_size(self) -> str:
        """The number of parameters for people: "134.52M"."""
        return human_count(self.parameter_count)


def describe(path: Path, others: Sequence[Path] = (), is_part: bool = False) -> Weights:
    """Read and check a model file; raises ModelFileError, StoreError. Blocks: 10 to 100 ms.

    A model that is split is described by its first part and `others`, or by a part alone (`is_part`).
    """
    facts = _Facts(gguf.read(path))
    if facts.number("split.count", 1) != len(others) + 1 and not is_part:
        raise ModelFileError("the file is one part of a split model: all its parts are needed")
    tensors = [*facts.gguf.tensors, *(tensor for other in others for tensor in gguf.read(other).tensors)]
    return Weights(
        kind=facts.kind(),
        architecture=facts.architecture,
        file_type=FILE_TYPES.get(facts.number("general.file_type", -1)) or _file_type(facts.gguf),
        parameter_count=sum(tensor.size for tensor in tensors),
        context_length=facts.length("context_length"),
        embedding_length=facts.length("embedding_length"),
        vocab_size=facts.length("vocab_size") or facts.num_tokens,
        kv_bytes=sum(facts.cache_bytes()),
        layers=weigh(tensors, facts.cache_bytes(), facts.windows(), facts.width(), facts.heads(), facts.head_sizes()),
        chat_template=facts.text("tokenizer.chat_template"),
        fim_tokens=facts.fim_tokens(path),
        beginning=facts.beginning(),
        control_tokens=facts.control_tokens(path),
        whole_tokens=facts.whole_tokens(path),
        has_pooling=facts.has("pooling_type"),
        normalizes_vectors=facts.normalizes_vectors(),
        has_vision=facts.has("vision.block_count"),
        instead=layouts.instead_of(facts.gguf, is_whole=not is_part and not others),
    )


def place(path: Path) -> tuple[int, int]:
    """Which part of how many a file of a split model says that it is; raises ModelFileError, StoreError."""
    facts = _Facts(gguf.read(path), is_part=True)
    return facts.number("split.no") + 1, facts.number("split.count", 1)


def parameter_count(file: Gguf) -> int:
    """How many numbers the tensors hold."""
    return sum(tensor.size for tensor in file.tensors)


def _file_type(file: Gguf) -> str:
    """How most of the numbers are packed, of a file that does not say it or has a number that we don't know."""
    sizes: Counter[str] = Counter()
    for tensor in file.tensors:
        sizes[tensor.type] += tensor.size
    return max(sizes, key=sizes.__getitem__, default="unknown")


def human_count(count: int) -> str:
    """A count for people as Ollama prints it: 134.52M, 7.6B, 7B."""
    for unit, letter, digits in ((10**9, "B", 1), (10**6, "M", 2)):
        if count >= unit:
            return f"{count // unit}{letter}" if count % unit == 0 else f"{count / unit:.{digits}f}{letter}"
    return f"{count / 1000:.0f}K" if count >= 1000 else str(count)


class _Facts:
    """Typed look-ups in a file's metadata; a value of a wrong type raises ModelFileError."""

    def __init__(self, file: Gguf, *, is_part: bool = False) -> None:
        self.gguf = file
        self.architecture = self.text("general.architecture")
        if not self.architecture and not is_part:
            raise ModelFileError("the file names no architecture")

    def _get(self, key: str, kind: type, default: Any) -> Any:
        value = self.gguf.metadata.get(key, default)
        if isinstance(value, LongText):
            raise ModelFileError(f'the file\'s "{key}" has {value.size} bytes, more than can be used')
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise ModelFileError(f'the file\'s "{key}" has the wrong type')
        return value

    def text(self, key: str) -> str:
        return str(self._get(key, str, ""))

    def number(self, key: str, default: int = 0) -> int:
        value = int(self._get(key, int, default))
        if value > _LARGEST:
            raise ModelFileError(f'the file\'s "{key}" is out of range')
        return value

    def has(self, key: str) -> bool:
        """Whether the architecture has this key."""
        return f"{self.architecture}.{key}" in self.gguf.metadata

    def length(self, key: str, default: int = 0) -> int:
        """A length or count of the architecture."""
        value = self.number(f"{self.architecture}.{key}", default)
        if value < 0:
            raise ModelFileError(f'the file\'s "{self.architecture}.{key}" is negative')
        return value

    def kind(self) -> Kind:
        declared = self.text("general.type")
        if declared == "adapter" or "adapter.type" in self.gguf.metadata:
            return "adapter"
        is_eye = self.has("vision.block_count") and not self.has("block_count")
        if declared in ("projector", "mmproj") or self.architecture == "clip" or is_eye:
            return "projector"
        return "model"

    @property
    def num_tokens(self) -> int:
        tokens = self.gguf.metadata.get("tokenizer.ggml.tokens")
        return tokens.count if isinstance(tokens, Array) else 0

    def _per_block(self, key: str, block_count: int, default: list[int]) -> list[int]:
        """A count that is one number, or one for each block."""
        value = self.gguf.metadata.get(f"{self.architecture}.{key}")
        if value is None:
            return default
        counts = (value.values or []) if isinstance(value, Array) else [self.length(key)] * block_count
        if len(counts) < block_count or not all(type(count) is int and 0 <= count <= _LARGEST for count in counts):
            raise ModelFileError(f'the file\'s "{self.architecture}.{key}" does not fit its blocks')
        return counts[:block_count]

    def normalizes_vectors(self) -> bool:
        """As the peer has it for its old route: BERT does unless the file says no, other architectures don't."""
        value = self.gguf.metadata.get(f"{self.architecture}.normalize_embeddings", True)
        return self.architecture == "bert" and value is not False

    def cache_bytes(self) -> list[int]:
        """Keys and values of each block for one token, two bytes a number."""
        block_count = self.length("block_count")
        if block_count > _LARGEST_BLOCK_COUNT:
            raise ModelFileError("the file claims more blocks than any model has")
        head_count = self._per_block("attention.head_count", block_count, [0] * block_count)
        head_count_kv = self._per_block("attention.head_count_kv", block_count, head_count)
        return [heads * sum(self.head_sizes()) * 2 for heads in head_count_kv]

    def head_sizes(self) -> tuple[int, int]:
        """Numbers of a key and of a value of one head."""
        most = self.heads()
        width = self.length("embedding_length") // most if most else 0
        return self.length("attention.key_length", width), self.length("attention.value_length", width)

    def heads(self) -> int:
        """How many heads of attention the block with the most of them has."""
        block_count = self.length("block_count")
        return max(self._per_block("attention.head_count", block_count, [0] * block_count), default=0)

    def width(self) -> int:
        """Numbers that one token takes in a block, as measured: five of its vectors, three of its feed-forward."""
        experts = self.length("expert_feed_forward_length") * self.length("expert_used_count")
        forward = max(max(self._per_block("feed_forward_length", self.length("block_count"), [0]), default=0), experts)
        return 5 * self.length("embedding_length") + 3 * forward

    def windows(self) -> list[int]:
        """How many tokens each block looks back, 0 for all: most architectures that have a window use it in most blocks."""
        window, block_count = self.length("attention.sliding_window"), self.length("block_count")
        period = _PERIODS.get(self.architecture, 0)
        return [window if period and number % period < period - 1 else 0 for number in range(block_count)]

    def beginning(self) -> tuple[int, ...]:
        """What stands for an empty text: an engine needs one token at least."""
        ids = (self.number(f"tokenizer.ggml.{name}_token_id", -1) for name in ("bos", "eos"))
        return next(((token,) for token in ids if 0 <= token < self.num_tokens), ())

    def control_tokens(self, path: Path) -> frozenset[int]:
        """The ids of the tokens that say something about a text and are none."""
        return self._marked(path, _CONTROL)

    def whole_tokens(self, path: Path) -> frozenset[int]:
        """The ids of the tokens that are found in a text before it is split further."""
        return self._marked(path, _WHOLE)

    def _marked(self, path: Path, wanted: Sequence[int]) -> frozenset[int]:
        kinds = self.gguf.metadata.get("tokenizer.ggml.token_type")
        found = gguf_arrays.find_numbers(path, kinds, wanted) if isinstance(kinds, Array) else frozenset()
        if len(found) > _MOST_MARKED:
            raise ModelFileError(f"the file has {len(found)} tokens that are no plain text, more than any model")
        return found

    def fim_tokens(self, path: Path) -> tuple[int, int, int] | None:
        """The ids of prefix, suffix and middle: by the file's keys, else by the text of its tokens."""
        ids = [self.number(new, self.number(old, -1)) for new, old in _FIM_KEYS]
        if all(0 <= token < self.num_tokens for token in ids):
            return ids[0], ids[1], ids[2]
        tokens = self.gguf.metadata.get("tokenizer.ggml.tokens")
        found = gguf_arrays.find_strings(path, tokens, _FIM_TEXTS) if isinstance(tokens, Array) else None
        return None if found is None else (found[0], found[1], found[2])
