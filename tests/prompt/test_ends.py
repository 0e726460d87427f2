"""Of a text that is far too long for a context no more is tokenized than what can fit is worth."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serow.prompt import ends
from serow.prompt.ends import MOST_CHARACTERS, ends_of, number_of, prompt_beginning
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
    return 8 * max(ends._LEAST, (num_ctx + ends._SURE) * max(MOST_CHARACTERS, width))


@settings(deadline=None, max_examples=50)
@given(length=st.integers(0, 200_000), num_ctx=st.integers(1, 64), width=st.sampled_from([1, 3, 24, 25, 100, 1000]))
async def test_work_is_bounded_by_what_fits_however_long_the_text_and_its_tokens_are(
    length: int, num_ctx: int, width: int
) -> None:
    engine, text = Counting(width), "x" * length
    ids, is_all = await prompt_beginning(text, num_ctx, engine)
    assert engine.num_characters <= most(num_ctx, width)
    whole = -(-length // width)
    assert len(ids) == whole if is_all else num_ctx < len(ids) < whole


@settings(deadline=None, max_examples=50)
@given(length=st.integers(0, 20_000), num_ctx=st.integers(0, 64), width=st.sampled_from([1, 3, 24, 3000]))
async def test_a_long_prompt_is_counted_by_its_beginning(length: int, num_ctx: int, width: int) -> None:
    engine = Counting(width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ends, "_COUNTED", 64)
        assert await number_of("x" * length, num_ctx, engine) == pytest.approx(-(-length // width), rel=0.05, abs=1)
    assert engine.num_characters <= most(64, width)


@settings(deadline=None, max_examples=50)
@given(length=st.integers(0, 200_000), num_ctx=st.integers(1, 64), width=st.sampled_from([1, 24, 100, 3000]))
async def test_of_a_prompt_that_keeps_both_ends_both_are_bounded(length: int, num_ctx: int, width: int) -> None:
    engine = Counting(width)
    ids, num_between = await ends_of([], "x" * length, num_ctx, engine)
    assert engine.num_characters <= 2 * most(num_ctx, width)
    whole = -(-length // width)
    assert len(ids) + num_between == pytest.approx(whole, rel=0.2, abs=2)
    assert num_between == 0 or len(ids) > 2 * num_ctx


async def test_what_fits_is_tokenized_once() -> None:
    engine = Counting()
    assert await prompt_beginning("abc", 8, engine) == ([97, 99, 99], True)
    assert engine.num_characters == 3


async def test_a_text_whose_tokens_grow_long_at_its_end_is_not_taken_for_too_long() -> None:
    engine = Counting(width=3000)
    ids, is_all = await prompt_beginning("x" * 150_000, 64, engine)
    assert len(ids) == 50 and is_all
