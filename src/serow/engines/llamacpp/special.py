"""The control tokens of a model: the engine shows none of them, so it finds no stop string that is made of them (GEN-07).

What a stop string needs is asked for, and taken out of the text again where it did not stop it. What the engine holds back
when an answer ends at its limit it forgets; of that, a control token is no part of the answer.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import structs

from serow.engines.base import Chunk

_LONGEST = 256  # characters of a stop string that are looked at, and of what is remembered
_REMEMBERED = 256  # sets of stop strings


class Vocabulary(Protocol):
    """Turns texts into ids and back, as LlamaRunner does."""

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]: ...
    async def detokenize(self, tokens: Sequence[int]) -> str: ...


class SpecialTokens:
    """Which control tokens stop strings hold, and which of those held back belong to an answer."""

    def __init__(self, control_tokens: frozenset[int], vocabulary: Vocabulary) -> None:
        self._control_tokens = control_tokens
        self._vocabulary = vocabulary
        self._found: dict[str, frozenset[str]] = {}

    async def in_stops(self, stops: Iterable[str]) -> frozenset[str]:
        """The texts of all control tokens that stop strings hold; one question for all of them, so that many cost no more."""
        text = "\n".join(stop[:_LONGEST] for stop in stops) if self._control_tokens else ""
        if not text:
            return frozenset()
        found = self._found.get(text)
        if found is None:
            found = await self._in(text)
            if len(text) <= _LONGEST:
                self._remember(text, found)
        return found

    async def without(self, tokens: Iterable[int], shown: set[str]) -> list[int]:
        """The tokens whose text an answer shows: no control tokens but those that are to be `shown`."""
        return [each for each in tokens if each not in self._control_tokens or await self._text(each) in shown]

    async def _in(self, text: str) -> frozenset[str]:
        tokens = await self._vocabulary.tokenize(text, add_special=False)
        texts = [await self._text(token) for token in dict.fromkeys(tokens) if token in self._control_tokens]
        return frozenset(filter(None, texts))

    def _remember(self, text: str, found: frozenset[str]) -> None:
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        self._found[text] = found

    async def _text(self, token: int) -> str:
        return await self._vocabulary.detokenize([token])


def without(chunk: Chunk, texts: Iterable[str]) -> Chunk:
    """The chunk without these texts: each is one token, so none is split between chunks."""
    text = chunk.text
    for each in texts:
        text = text.replace(each, "")
    return chunk if text == chunk.text else structs.replace(chunk, text=text)
