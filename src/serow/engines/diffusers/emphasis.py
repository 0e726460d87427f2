r"""Weights in a description, as people write them for Stable Diffusion: `(more)`, `((much more))`, `[less]`, `(red:1.4)`.

A round bracket multiplies by 1.1, a square one divides by it, a number behind a colon stands for its bracket's own; brackets
within brackets multiply. `\(` and its like are meant as they stand. A bracket that is not closed counts up to the end, one
that was not opened is text.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from serow.errors import RequestError

MOST_NESTED = 16  # brackets within brackets
MOST_WEIGHT = 10.0  # of a piece, with either sign
_STEP = 1.1
_WEIGHT = r":\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)"
_PART = re.compile(rf"\\[\\()\[\]]|{_WEIGHT}|[()\[\]]|[^\\()\[\]:]+|[\\:]")
_NUMBERED = re.compile(rf"\([^()]*{_WEIGHT}")


class Piece(NamedTuple):
    """A part of a description and how much it counts."""

    text: str
    weight: float = 1.0


def pieces_of(text: str, param: str = "prompt") -> list[Piece]:
    """The pieces of a description, brackets taken away; raises RequestError for too many brackets or too large a weight."""
    found = _Pieces(param)
    for match in _PART.finditer(text):
        found.take(match[0], match[1])
    return _joined(found.close(), param)


def plain(pieces: Iterable[Piece]) -> str:
    """What the text encoder reads."""
    return "".join(piece.text for piece in pieces)


def has_numbers(text: str) -> bool:
    """Whether a description has a weight in numbers, which nobody means as text."""
    return _NUMBERED.search(text) is not None


class _Pieces:
    """Pieces as they come, each a text with its weight so far."""

    def __init__(self, param: str) -> None:
        self._param = param
        self._found: list[Piece] = []
        self._open: dict[str, list[int]] = {"(": [], "[": []}  # at which piece each began

    def take(self, part: str, number: str | None) -> None:
        """A bracket, a weight with its bracket, or text."""
        if part in self._open:
            if sum(map(len, self._open.values())) >= MOST_NESTED:
                raise RequestError(f"at most {MOST_NESTED} brackets may stand within each other", param=self._param)
            self._open[part].append(len(self._found))
        elif number is not None and self._open["("]:
            self._close("(", float(number))
        elif part == ")" and self._open["("]:
            self._close("(", _STEP)
        elif part == "]" and self._open["["]:
            self._close("[", 1 / _STEP)
        else:
            self._found.append(Piece(part[1:] if len(part) == 2 and part[0] == "\\" else part))

    def close(self) -> list[Piece]:
        """All of them, at the end of the text."""
        for bracket, factor in (("(", _STEP), ("[", 1 / _STEP)):
            while self._open[bracket]:
                self._close(bracket, factor)
        return self._found

    def _close(self, bracket: str, factor: float) -> None:
        for index in range(self._open[bracket].pop(), len(self._found)):
            text, weight = self._found[index]
            self._found[index] = Piece(text, weight * factor)


def _joined(pieces: Sequence[Piece], param: str) -> list[Piece]:
    """Neighbours of one weight as one piece."""
    if not all(abs(piece.weight) <= MOST_WEIGHT for piece in pieces):
        raise RequestError(f"the weight of a text must be between -{MOST_WEIGHT:g} and {MOST_WEIGHT:g}", param=param)
    return [Piece(plain(group), weight) for weight, group in groupby(pieces, key=attrgetter("weight"))]
