import json
import re
from typing import Any

import pytest

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
    many = ("a" * 110 + '", "') * 160_000
    for text in (letter * (most + 100), f"{LARGE * 16}{letter}", f"{many}{letter}"):
        assert re.search("holds 1[678][0-9]{6} bytes of text that is not plain ASCII", said(f'{{"a": ["{text}"]}}'.encode()))


def said(body: bytes) -> str:
    """The words of the refusal; "" where there is none."""
    try:
        decode_object(body)
    except RequestError as error:
        return str(error)
    return ""
