"""A smaller model that guesses ahead of another one: what it takes, and whether its tokens are the other one's."""

from dataclasses import dataclass, field
from pathlib import Path

from serow.store import gguf, gguf_arrays
from serow.store.gguf import Array
from serow.store.layers import Layers

NO_VOCABULARY = "its file has no vocabulary: engines here guess with whole language models only"
_MOST_APART = 128  # tokens that one may have more than the other, as llama.cpp has it
_FIRST = 5  # tokens that it does not compare
_TOKENS = "tokenizer.ggml.tokens"
_KINDS = ("tokenizer.ggml.model", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token")
_MARKS = ("tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id")


@dataclass(frozen=True)
class Guesser:
    """The file of the smaller model. `refusal` says why it can't guess for the larger one, "" where it can."""

    path: Path
    size: int  # bytes
    kv_bytes: int = 0  # bytes of key-value cache for one token (f16)
    embedding_length: int = 0
    layers: Layers = field(default_factory=Layers)
    refusal: str = ""


def misfit(weights: Path, draft: Path) -> str:
    """Why a draft can't guess for a model, "" where it can: an engine compares the same. Raises ModelFileError, StoreError."""
    ours, theirs = gguf.read(weights).metadata, gguf.read(draft).metadata
    tokens, guesses = ours.get(_TOKENS), theirs.get(_TOKENS)
    if not isinstance(tokens, Array) or not isinstance(guesses, Array):
        return NO_VOCABULARY
    for key in _KINDS:
        if key in ours and key in theirs and ours[key] != theirs[key]:
            return f"its {key.rpartition('.')[2]} is {theirs[key]}, the model's {ours[key]}"
    for kind, mark in zip(_KINDS[1:], _MARKS, strict=True):
        if ours.get(kind) and mark in ours and mark in theirs and ours[mark] != theirs[mark]:
            return f"its {mark.rpartition('.')[2]} is {theirs[mark]}, the model's {ours[mark]}"
    if abs(tokens.count - guesses.count) > _MOST_APART:
        return f"it knows {guesses.count} tokens, the model {tokens.count}"
    if not gguf_arrays.begin_alike(weights, tokens, draft, guesses, _FIRST):
        return "it has other tokens than the model"
    return ""
