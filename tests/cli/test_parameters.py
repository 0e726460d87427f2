"""Parameters as people type them."""

from typing import Any

import pytest

from serow.cli.parameters import parse_parameter
from serow.errors import RequestError


@pytest.mark.parametrize(
    "name, words, value",
    [
        ("seed", ["42"], 42),
        ("temperature", ["0"], 0.0),
        ("temperature", ["1.5"], 1.5),
        ("use_mmap", ["false"], False),
        ("stop", ["###", "END"], ("###", "END")),
        ("mirostat", ["2"], 2),
    ],
)
def test_words_become_what_the_option_holds(name: str, words: list[str], value: Any) -> None:
    assert parse_parameter(name, words) == value


@pytest.mark.parametrize(
    "name, word, message",
    [
        ("seed", "x", 'option "seed" must be of type integer'),
        ("seed", "1.5", 'option "seed" must be of type integer'),
        ("temperature", "nan", 'option "temperature" must be of type float32'),
        ("use_mmap", "maybe", 'option "use_mmap" must be of type boolean'),
        ("nope", "1", "unknown parameter 'nope'"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, word: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_parameter(name, [word])
    assert str(caught.value) == message
