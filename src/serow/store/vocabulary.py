"""Tokenizers of image models, looked at before a text is read with them: a vocabulary that is missing or cut draws the same
picture for every prompt, without a word.

What is compared: how many tokens there are with the rows of the text encoder's embedding, and merges with the tokens that they
would make.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from serow.errors import ModelFileError

Read = Callable[[str], bytes]
LIMIT = 64 << 20  # bytes of a file of a tokenizer
_MOST_MISSING = 0.1  # of the rows: tables are padded, by a few tokens in a thousand
_FEWEST_MERGES = 0.9  # of the tokens that are made of others
_ALPHABET = 512  # tokens of one byte, at the end of a word and not
_EMBEDDINGS = re.compile(r"(?:^|\.)(?:token_embedding|embed_tokens|shared|word_embeddings|wte)\.weight$")


class _Vocabulary(msgspec.Struct):
    vocab: dict[str, int] | list[Any] = {}
    merges: list[Any] | None = None
    type: str = ""


class _Tokenizer(msgspec.Struct):
    model: _Vocabulary
    added_tokens: list[dict[str, Any]] = []


def embedding_rows(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many tokens a text encoder has numbers for; 0 when its weights do not tell."""
    return max((shape[0] for name, shape in shapes.items() if len(shape) == 2 and is_embedding(name)), default=0)


def is_embedding(name: str) -> bool:
    """Whether a tensor holds a row for each token."""
    return _EMBEDDINGS.search(name) is not None


def check(part: str, paths: Iterable[str], read: Read, rows: int) -> None:
    """Raise ModelFileError for a tokenizer that is not whole, or is not that of an encoder with so many `rows`.

    `paths` are the files of its part, below the part's name.
    """
    names = {path.partition("/")[2] for path in paths if path.startswith(f"{part}/")}
    if "tokenizer.json" in names:
        count, highest = _of_json(part, read)
    elif "vocab.json" in names:
        count, highest = _of_lists(part, names, read)
    elif any(name.endswith(".model") for name in names):
        return  # sentencepiece: one file, whole or broken
    else:
        raise ModelFileError(f"the part {part} has no vocabulary: neither tokenizer.json nor vocab.json nor a .model file")
    if count == 0:
        raise ModelFileError(f"the part {part} has an empty vocabulary")
    if rows and highest >= rows:
        raise ModelFileError(f"the part {part} has a token of the number {highest}, its text encoder has {rows} rows")
    if rows and count < rows * (1 - _MOST_MISSING):
        raise ModelFileError(f"the part {part} has {count} tokens where its text encoder has {rows}: its vocabulary is cut")


def _of_json(part: str, read: Read) -> tuple[int, int]:
    """How many tokens a tokenizer.json has, and the highest number."""
    path = f"{part}/tokenizer.json"
    found = _decode(read(path), _Tokenizer, path)
    tokens = found.model.vocab
    numbers = set(tokens.values()) if isinstance(tokens, dict) else set(range(len(tokens)))
    if found.model.type == "BPE":
        _check_merges(path, len(found.model.merges or ()), len(numbers))
    numbers |= {number for token in found.added_tokens if isinstance(number := token.get("id"), int)}
    return len(numbers), max(numbers, default=-1)


def _of_lists(part: str, names: Iterable[str], read: Read) -> tuple[int, int]:
    """The same of vocab.json and merges.txt."""
    path = f"{part}/vocab.json"
    tokens = _decode(read(path), dict[str, int], path)
    if "merges.txt" not in names:
        raise ModelFileError(f"the part {part} has no merges.txt beside its vocab.json")
    lines = [line for line in read(f"{part}/merges.txt").split(b"\n") if line.strip() and not line.startswith(b"#version")]
    _check_merges(f"{part}/merges.txt", len(lines), len(tokens))
    added = (
        _decode(read(f"{part}/added_tokens.json"), dict[str, int], "added_tokens.json") if "added_tokens.json" in names else {}
    )
    numbers = {*tokens.values(), *added.values()}
    return len(numbers), max(numbers, default=-1)


def _check_merges(path: str, merges: int, tokens: int) -> None:
    if merges < (tokens - _ALPHABET) * _FEWEST_MERGES:
        raise ModelFileError(f"{path} is cut: {merges} merges can't make {tokens} tokens")


def _decode(data: bytes, kind: Any, path: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ModelFileError(f"{path} is broken") from None
