"""Control tokens in stop strings and at the end of an answer, with a vocabulary of single characters."""

from collections.abc import Sequence

import pytest

from serow.engines.base import Chunk
from serow.engines.llamacpp.special import SpecialTokens, without

CONTROL = frozenset(map(ord, "«»"))


class Letters:
    """A token is a character; counts how often it was asked."""

    def __init__(self) -> None:
        self.num_asked = 0

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        self.num_asked += 1
        return list(map(ord, text))

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))


@pytest.mark.parametrize(
    ("stops", "found"),
    [([], ""), (["a"], ""), (["«"], "«"), (["«user", "x"], "«"), (["a»", "«b"], "«»"), (["a" * 999 + "«"], "")],
)
async def test_the_control_tokens_of_stop_strings_are_found(stops: list[str], found: str) -> None:
    assert await SpecialTokens(CONTROL, Letters()).in_stops(stops) == set(found)


async def test_stop_strings_are_looked_at_together_and_once_and_none_where_there_are_no_control_tokens() -> None:
    letters = Letters()
    special = SpecialTokens(CONTROL, letters)
    for _ in range(3):
        await special.in_stops(["«a", "b"])
    await SpecialTokens(frozenset(), letters).in_stops(["«a"])
    assert letters.num_asked == 1


async def test_what_is_held_back_at_the_limit_is_shown_without_control_tokens() -> None:
    held = list(map(ord, "a«b»"))
    special = SpecialTokens(CONTROL, Letters())
    assert await special.without(held, set()) == list(map(ord, "ab"))
    assert await special.without(held, {"»"}) == list(map(ord, "ab»"))


def test_a_chunk_loses_what_was_shown_for_the_stop_strings_sake() -> None:
    assert without(Chunk("a«b", num_tokens=3), ["«"]) == Chunk("ab", num_tokens=3)
    assert without(Chunk("ab"), ["«"]) == Chunk("ab")
