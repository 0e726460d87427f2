"""The ids of a long text, asked for piece by piece: where a text is full of tokens that are found by their whole text, such as
`<|im_start|>`, the engine's tokenizer looks through all the rest for each of them.

It cuts a text at such tokens itself, so that what stands before one has the same ids without what follows.
"""

from collections.abc import Sequence
from typing import Protocol

LENGTH = 32 << 10  # characters of a piece; of one that has no such token it doubles


class Vocabulary(Protocol):
    """Turns texts into ids and back, as LlamaRunner does."""

    async def tokenize_at_once(self, text: str, *, add_special: bool) -> list[int]: ...
    async def detokenize(self, tokens: Sequence[int]) -> str: ...


class Pieces:
    """Tokenizes with a vocabulary whose tokens `whole` are found by their whole text."""

    def __init__(self, whole: frozenset[int], vocabulary: Vocabulary) -> None:
        self._whole = whole
        self._vocabulary = vocabulary

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """Token ids of a text."""
        if len(text) <= LENGTH or not self._whole:
            return await self._vocabulary.tokenize_at_once(text, add_special=add_special)
        added = await self._vocabulary.tokenize_at_once("a", add_special=True) if add_special else []
        inner = await self._vocabulary.tokenize_at_once("a", add_special=False) if add_special else []
        num_before = int(added[: len(inner)] != inner)
        return added[:num_before] + await self._ids(text) + added[num_before + len(inner) :]

    async def _ids(self, text: str) -> list[int]:
        found: list[int] = []
        start, length = 0, LENGTH
        while start + length < len(text):
            piece = text[start : start + length]
            ids = await self._vocabulary.tokenize_at_once(piece, add_special=False)
            last = next((place for place in reversed(range(len(ids))) if ids[place] in self._whole), 0)
            mark = await self._vocabulary.detokenize([ids[last]]) if last else ""
            end = piece.rfind(mark) if mark else 0
            if end > 0:
                found += ids[:last]
                start, length = start + end, LENGTH
            else:
                length *= 2
        return found + await self._vocabulary.tokenize_at_once(text[start:], add_special=False)
