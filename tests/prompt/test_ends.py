"""Of a text that is far too long for a context no more is tokenized than what can fit is worth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.prompt.ends import MOST_CHARACTERS, beginning_of, ends_of, prompt_beginning
from tests.support.engine import FakeEngine


class Counting(FakeEngine):
    """A token holds `width` characters; it counts those that were tokenized."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.width = width
        self.num_characters = 0

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        self.num_characters += len(text)
        return [ord(text[place]) + place % 2 for place in range(0, len(text), self.width)]


def most(num_ctx: int, width: int) -> int:
    """Characters that may be looked at: those that fit, some times over."""
    return 8 * (num_ctx + 16) * max(MOST_CHARACTERS, width)


@given(length=st.integers(0, 200_000), num_ctx=st.integers(1, 64), width=st.sampled_from([1, 3, 23, 24, 25, 100, 3000]))
async def test_work_is_bounded_by_what_fits_however_long_the_text_and_its_tokens_are(
    length: int, num_ctx: int, width: int
) -> None:
    engine, text = Counting(width), "x" * length
    ids, is_all = await prompt_beginning(text, num_ctx, engine)
    assert engine.num_characters <= most(num_ctx, width)
    whole = -(-length // width)
    assert len(ids) == whole if is_all else num_ctx < len(ids) < whole


@given(length=st.integers(0, 200_000), num_ctx=st.integers(1, 64), width=st.sampled_from([1, 24, 100, 3000]))
async def test_of_a_prompt_that_keeps_both_ends_both_are_bounded(length: int, num_ctx: int, width: int) -> None:
    engine = Counting(width)
    ids, num_between = await ends_of([], "x" * length, num_ctx, engine)
    assert engine.num_characters <= 4 * most(num_ctx, width)
    whole = -(-length // width)
    assert len(ids) + num_between == pytest.approx(whole, rel=0.2, abs=2)
    assert num_between == 0 or len(ids) > 2 * num_ctx


async def test_what_fits_is_tokenized_once() -> None:
    engine = Counting()
    assert await beginning_of("abc", 8, lambda text: engine.tokenize(text, add_special=False)) == ([97, 99, 99], True)
    assert engine.num_characters == 3
