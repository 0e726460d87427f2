from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.parsers.tags import overlap
from serow.parsers.thinking import ThinkingParser, ThinkingTags, tags_of_jinja

TAGS = ThinkingTags("<think>", "</think>")


def split(pieces: list[str], *, is_open: bool = False) -> tuple[str, str]:
    parser = ThinkingParser(TAGS, is_open=is_open)
    sides = [parser.feed(piece) for piece in pieces] + [parser.flush()]
    return "".join(thinking for thinking, _ in sides), "".join(answer for _, answer in sides)


@pytest.mark.req("GEN-14")
@pytest.mark.parametrize(
    ("text", "is_open", "thinking", "answer"),
    [
        ("<think>\na\n</think>\n\nb", False, "a\n", "b"),
        (" \n<think>a</think>b", False, "a", "b"),
        ("a\n</think>b", True, "a\n", "b"),
        ("<think>\n\n</think>\n\nb", False, "", "b"),
        ("no tags", False, "", "no tags"),
        ("  spaced", False, "", "  spaced"),
        ("<thin", False, "", "<thin"),
        ("<think>cut</thi", False, "cut</thi", ""),
        ("<think>a</think>b<think>c", False, "a", "b<think>c"),
        ("", False, "", ""),
    ],
)
def test_thinking_and_answer_are_told_apart_wherever_the_pieces_split(
    text: str, is_open: bool, thinking: str, answer: str
) -> None:
    for size in (1, 2, 3, 7, 100):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert split(pieces, is_open=is_open) == (thinking, answer)


@pytest.mark.req("GEN-14")
@given(st.text(alphabet="ab <>/think\n", max_size=60), st.sets(st.integers(0, 60)))
def test_the_same_text_gives_the_same_sides_however_it_is_cut(text: str, cuts: set[int]) -> None:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    assert split([text[a:b] for a, b in pairwise(edges)]) == split([text])


@pytest.mark.parametrize(("text", "length"), [("abc</th", 4), ("abc", 0), ("<", 1), ("</think>", 0)])
def test_overlap_is_the_longest_beginning_of_the_tag_at_the_end(text: str, length: int) -> None:
    assert overlap(text, "</think>") == length


def test_a_jinja_template_tells_its_tags() -> None:
    assert tags_of_jinja("{{ '[THINK]' }}") == ThinkingTags("[THINK]", "[/THINK]")
    assert tags_of_jinja("{{ messages }}") is None
