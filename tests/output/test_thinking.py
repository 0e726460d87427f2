from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.output.tags import overlap
from serow.output.thinking import CHANNELS, ThinkingParser, ThinkingTags, tags_of_jinja

TAGS = ThinkingTags("<think>", "</think>")


def split(pieces: list[str], *, begun: str | None = None, tags: ThinkingTags = TAGS) -> tuple[str, str]:
    parser = ThinkingParser(tags, begun)
    sides = [parser.feed(piece) for piece in pieces] + [parser.flush()]
    return "".join(thinking for thinking, _ in sides), "".join(answer for _, answer in sides)


@pytest.mark.req("GEN-14")
@pytest.mark.parametrize(
    ("text", "begun", "thinking", "answer"),
    [
        ("<think>\na\n</think>\n\nb", None, "a\n", "b"),
        (" \n<think>a</think>b", None, "a", "b"),
        ("a\n</think>b", "\n", "a\n", "b"),
        (" a</think>b", "\nOnes:", " a", "b"),
        ("ink>b", "a</th", "", "b"),
        ("<think>\n\n</think>\n\nb", None, "", "b"),
        ("no tags", None, "", "no tags"),
        ("  spaced", None, "", "  spaced"),
        ("<thin", None, "", "<thin"),
        ("<think>cut</thi", None, "cut</thi", ""),
        ("<think>a</think>b<think>c", None, "a", "b<think>c"),
        ("", None, "", ""),
    ],
)
def test_thinking_and_answer_are_told_apart_wherever_the_pieces_split(
    text: str, begun: str | None, thinking: str, answer: str
) -> None:
    for size in (1, 2, 3, 7, 100):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert split(pieces, begun=begun) == (thinking, answer)


@pytest.mark.req("GEN-14")
@given(st.text(alphabet="ab <>/think\n", max_size=60), st.sets(st.integers(0, 60)))
def test_the_same_text_gives_the_same_sides_however_it_is_cut(text: str, cuts: set[int]) -> None:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    assert split([text[a:b] for a, b in pairwise(edges)]) == split([text])


@pytest.mark.req("GEN-14")
@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        (f"{CHANNELS.opening}Hm.{CHANNELS.closing}Hi", "Hm.", "Hi"),
        ("<|channel|>final<|message|>Hi", "", "Hi"),
        ("<|channel|>analysis<|message|>Hm", "Hm", ""),
        ("Hi", "", "Hi"),
    ],
)
def test_channels_are_told_apart(text: str, thinking: str, answer: str) -> None:
    for size in (1, 5, 100):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert split(pieces, tags=CHANNELS) == (thinking, answer)


def test_tags_name_the_tokens_that_they_are_made_of() -> None:
    assert {"<|channel|>", "<|message|>", "<|end|>", "<|start|>"} <= set(CHANNELS.tokens)
    assert TAGS.tokens == ("<think>", "</think>")


@pytest.mark.parametrize(("text", "length"), [("abc</th", 4), ("abc", 0), ("<", 1), ("</think>", 0)])
def test_overlap_is_the_longest_beginning_of_the_tag_at_the_end(text: str, length: int) -> None:
    assert overlap(text, "</think>") == length


@pytest.mark.parametrize(
    ("prompt", "raw", "begun"),
    [
        ("Hi<think>\n", False, "\n"),
        ("What is <think> for?", False, None),
        ("Hi<think>\nOnes:", True, "\nOnes:"),
        ("<think>a</think>b", True, None),
        ("Hi", True, None),
    ],
)
def test_a_prompt_tells_what_of_the_thinking_it_holds(prompt: str, raw: bool, begun: str | None) -> None:
    assert TAGS.begun(prompt, raw=raw) == begun


def test_a_jinja_template_tells_its_tags() -> None:
    assert tags_of_jinja("{{ '[THINK]' }}") == ThinkingTags("[THINK]", "[/THINK]")
    assert tags_of_jinja("{{ messages }}") is None
