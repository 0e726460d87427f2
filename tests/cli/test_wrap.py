"""Lines broken between words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.cli.wrap import WordWrap


def wrapped(text: str, width: int, step: int = 1000) -> str:
    wrap = WordWrap(width)
    return "".join(wrap.feed(text[i : i + step]) for i in range(0, len(text), step)) + wrap.flush()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("one two three", "one two \nthree"),
        ("one two\nthree four", "one two\nthree four"),
        ("0123456789abc", "0123456789abc"),
        ("a 0123456789abc", "a \n0123456789abc"),
        ("0123456789 a", "0123456789\na"),
        ("", ""),
        ("   indented", "   \nindented"),
        ("\n\n", "\n\n"),
        ("你好你好你好", "你好你好你\n好"),
    ],
)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_words_that_do_not_fit_begin_a_line_wherever_the_pieces_split(text: str, expected: str, step: int) -> None:
    assert wrapped(text, 10, step) == expected


def test_a_word_is_held_back_until_it_is_complete() -> None:
    wrap = WordWrap(10)
    assert [wrap.feed("one t"), wrap.feed("wo "), wrap.flush()] == ["one ", "two ", ""]


@given(st.text())
def test_without_a_width_the_text_stays_as_it_is(text: str) -> None:
    assert wrapped(text, 0, 2) == text


@given(st.text(alphabet="ab \n"), st.integers(min_value=2, max_value=12))
def test_no_word_is_lost(text: str, width: int) -> None:
    assert wrapped(text, width).split() == text.split()
