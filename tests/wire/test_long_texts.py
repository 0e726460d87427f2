import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serow import bounds
from serow.errors import RequestError
from serow.wire import long_texts
from serow.wire.json import decode_object
from serow.wire.long_texts import LongTexts

LONG = "aGVs" * 20_000
LARGE = "x" * long_texts._LARGE
VALUES: dict[str, Any] = {
    "a picture": LONG,
    "short ones": ["x" * 5000, "x" * 4096, "x" * 4095],
    "pictures in a list": [LONG, LONG + "b", "short"],
    "deep": {"a": [{"b": {"c": [LONG]}}, LONG]},
    "as a name": {LONG: 1, f"{LONG} ": LONG},
    "with a quote": f'{LONG}"{LONG}',
    "with a quote before": f'"{LONG}',
    "with backslashes": [f"{LONG}\\", f"\\{LONG}", f'\\"{LONG}\\\\', LONG],
    "with a line": f"{LONG}\n",
    "with another letter": f"{LONG}é",
    "like a mark": ["serow-", LONG],
}


@pytest.mark.parametrize("name", VALUES)
def test_a_body_with_long_texts_is_read_as_without_this(name: str) -> None:
    body = {"first": "é", "value": VALUES[name], "last": LARGE}
    assert decode_object(json.dumps(body, ensure_ascii=False).encode()) == body


@pytest.mark.parametrize("letter", ["e", "é"])
def test_long_texts_are_taken_out_of_large_bodies_only(letter: str) -> None:
    assert len(LongTexts(f'{{"a": "{letter}", "b": "{LARGE}"}}'.encode()).rest) < 100
    small = f'{{"a": "{letter}", "b": "{LONG}"}}'.encode()
    assert LongTexts(small).rest == small


@pytest.mark.parametrize("end", ["", "]", '"x', ', "b": NaN}', ', "b": 1}}'])
def test_what_is_wrong_behind_a_long_text_is_told_at_its_place_in_the_body(end: str) -> None:
    for text in (LARGE, "x"):
        body = f'{{"é": "é", "a": "{text}" {end}'
        words = [said(body.encode()), said(body.replace("é", "e").encode())]
        assert words[0] == words[1]


def test_bytes_that_are_no_text_are_told_at_their_place_too() -> None:
    body = f'{{"é": "{LARGE}", "b": "'.encode()
    assert said(body + b"\xff" + b'"}') == f"the request body is not valid UTF-8 at byte {len(body)}"


@pytest.mark.parametrize("letter", ["é", "日", "😀"])
def test_text_that_is_not_plain_is_bounded(letter: str) -> None:
    most = bounds.LETTERS.limit // len(letter.encode()) - 100
    assert len(decode_object(f'{{"a": "{letter * most}", "b": "{LARGE}"}}'.encode())["a"]) == most
    for text in (letter * (most + 101), f"{LARGE * 16}{letter}", f'{LARGE * 8}{letter}", "{LARGE * 8}{letter}'):
        assert re.search("holds 1[678][0-9]{6} bytes of text that is not plain ASCII", said(f'{{"a": ["{text}"]}}'.encode()))


BESIDE = {
    "short texts": b'"%s",' % (b"a" * 110),
    "space": b" " * 1000,
    "numbers": b"123456789012345678,",
    "names": b'"%s": 1,' % (b"n" * 600),
}


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("end", [b'"x"', "é".encode(), b""])
def test_what_is_left_beside_long_texts_is_bounded(name: str, end: bytes) -> None:
    many = BESIDE[name] * (bounds.REST.limit // len(BESIDE[name]) + 1)
    assert re.search("bytes beside its long texts, more than the 16777216 allowed", said(b'{"a": [' + many + end + b"]}"))


PARTS = [
    "x", "é", "日", "😀", "/", r"\"", r"\\", r"\n", r"\/", r"\u00e9", r"\\u", r"\ud83d", r"\ude00", r"\ud83d\ude00", r"\uD800",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PARTS), max_size=40).map("".join)


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(TEXTS, max_size=6),
    piece=st.integers(16, 60),
    long=st.integers(1, 20),
    tail=st.sampled_from(["", ",", "\x01"]),
)
def test_wherever_a_text_is_cut_it_is_read_as_without_this(texts: list[str], piece: int, long: int, tail: str) -> None:
    body = ('{"a": ["' + '", "'.join(texts) + f'"{tail}], "b": {{"{"".join(texts)}": 1}}}}').encode()
    plain = read(body)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"_LARGE": 1, "_PIECE": piece, "_LONG": long}.items():
            patch.setattr(long_texts, name, value)
        assert read(body) == plain


@pytest.mark.parametrize("text", ["\x01", "\\x", "\\u12", "\xff", "\xf0\x9f"])
@pytest.mark.parametrize("size", [10, 1000, 2_000_000])
def test_what_is_wrong_in_a_long_text_is_told_at_its_place(text: str, size: int) -> None:
    body = b'{"\xc3\xa9": "\xc3\xa9' + b"x" * size + text.encode("latin-1") + b'", "b": "' + LARGE.encode() + b'"}'
    place = re.search(r"at (byte|character) (\d+)", said(body))
    assert place is not None
    assert int(place[2]) - (4 if place[1] == "byte" else 2) - size in range(4, 12)


def read(body: bytes) -> Any:
    """What a body holds, or what is said of it."""
    try:
        return decode_object(body)
    except RequestError as error:
        return str(error)


def test_texts_are_counted_before_they_are_made() -> None:
    texts = [b'"%d"' % number for number in range(300_001)]
    assert re.search(
        "holds 3[0-9]{5} texts and names, more than the 300000 allowed", said(b'{"a": [' + b",".join(texts) + b"]}")
    )
    assert len(decode_object(b'{"a": [' + b",".join(texts[:299_000]) + b"]}")["a"]) == 299_000


def test_a_text_whose_letters_are_all_escaped_counts_as_what_it_says() -> None:
    assert len(decode_object(b'{"a": "' + b"\\u65e5" * 4_000_000 + b'"}')["a"]) == 4_000_000


def said(body: bytes) -> str:
    """The words of the refusal; "" where there is none."""
    try:
        decode_object(body)
    except RequestError as error:
        return str(error)
    return ""
