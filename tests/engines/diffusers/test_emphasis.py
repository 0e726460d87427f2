"""Weights in a description: what is a bracket, how much it counts, and what is refused."""

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.engines.diffusers.emphasis import MOST_NESTED, Piece, has_numbers, pieces_of, plain
from serow.errors import RequestError


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("a red circle", [("a red circle", 1)]),
        ("a (red:1.4) circle", [("a ", 1), ("red", 1.4), (" circle", 1)]),
        ("a ( red : 0.5 ) circle", [("a ", 1), (" red ", 0.5), (" circle", 1)]),
        ("(red)", [("red", 1.1)]),
        ("((red))", [("red", 1.21)]),
        ("[dull] sky", [("dull", 1 / 1.1), (" sky", 1)]),
        ("((red:2) sky:1.5)", [("red", 3), (" sky", 1.5)]),
        ("(a (b:0) c)", [("a ", 1.1), ("b", 0), (" c", 1.1)]),
        ("(red:1)", [("red", 1)]),
        ("(red:-1)(blue:.5)", [("red", -1), ("blue", 0.5)]),
        (r"a \(red\) \[x\] \\ circle", [("a (red) [x] \\ circle", 1)]),
        (r"a\b", [("a\\b", 1)]),
        ("(open", [("open", 1.1)]),
        ("[(open", [("open", 1)]),
        ("closed) and ] too:2)", [("closed) and ] too:2)", 1)]),
        ("at 10:30", [("at 10:30", 1)]),
        ("(at 10:30:2)", [("at 10:30", 2)]),
        ("(e:1e3)", [("e:1e3", 1.1)]),
        ("()", []),
    ],
)
def test_brackets_weigh_what_they_hold(text: str, pieces: list[tuple[str, float]]) -> None:
    found = pieces_of(text)
    assert [piece.text for piece in found] == [text for text, _ in pieces]
    assert [piece.weight for piece in found] == pytest.approx([weight for _, weight in pieces])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(red:11)", "the weight of a text must be between -10 and 10"),
        ("(red:-10.5)", "the weight of a text must be between -10 and 10"),
        ("((a:9):9)", "the weight of a text must be between -10 and 10"),
        ("(red:" + "9" * 400 + ")", "the weight of a text must be between -10 and 10"),
        ("((a:" + "9" * 400 + "):0)", "the weight of a text must be between -10 and 10"),
        ("(" * (MOST_NESTED + 1), "at most 16 brackets may stand within each other"),
        ("[(" * MOST_NESTED, "at most 16 brackets may stand within each other"),
    ],
)
def test_what_is_out_of_bounds_is_refused(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as failed:
        pieces_of(text, "options.negative_prompt")
    assert failed.value.param == "options.negative_prompt"


@given(st.text(alphabet="ab \t:.()[]\\1", max_size=60))
def test_whatever_is_written_is_read_or_refused_and_nothing_of_it_is_lost(text: str) -> None:
    try:
        found = pieces_of(text)
    except RequestError:
        return
    assert plain(found).count("a") == text.count("a") and plain(found).count("b") == text.count("b")
    assert all(isinstance(piece, Piece) and piece.text for piece in found)


@given(st.text(max_size=60).filter(lambda text: not set(text) & set("()[]\\")))
def test_a_description_without_brackets_is_read_as_it_stands(text: str) -> None:
    assert pieces_of(text) == ([Piece(text)] if text else [])


@pytest.mark.parametrize("text", ["(a:1.2) ", "(a", ":", ": ", ":1", "[(x:1)]", ")", "\\", "(((((((((((((((a)))))))))))))))"])
def test_long_descriptions_take_time_in_proportion(text: str) -> None:
    long = text * (200_000 // len(text))
    started = time.process_time()
    has_numbers(long)
    with suppress(RequestError):
        pieces_of(long)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("(red:1.4)", True), ("a (red) b", False), ("10:30)", False), ("(at 10:30)", True), ("[a:b:0.5]", False)],
)
def test_a_weight_in_numbers_is_told_from_mere_brackets(text: str, numbers: bool) -> None:
    assert has_numbers(text) is numbers
