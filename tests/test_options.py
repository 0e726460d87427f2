import json
import re
from pathlib import Path
from typing import Any

import pytest

from serow.errors import RequestError
from serow.options import TABLE, Options, parse_options, read_option, resolve_options


@pytest.mark.req("GEN-06")
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("top_k", 40.7, 40),
        ("seed", 2**64 - 1, 2**64 - 1),
        ("seed", 2**64 + 7, 2**64 + 7),
        ("top_k", 1e20, 2**63 - 1),
        ("seed", -5, -5),
        ("temperature", 1, 1.0),
        ("num_ctx", 0, 0),
        ("num_ctx", 16, 16),
        ("use_mmap", False, False),
        ("stop", ".", (".",)),
        ("stop", ["a", "", "b"], ("a", "b")),
        ("logit_bias", {"42": -1}, ((42, -1.0),)),
        ("logit_bias", [["x", 2]], (("x", 2.0),)),
    ],
)
def test_an_option_is_read_leniently_where_the_peer_is(name: str, value: Any, expected: Any) -> None:
    assert parse_options({name: value}) == ({name: expected}, [])


@pytest.mark.req("GEN-06")
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("top_k", "40", 'option "top_k" must be of type integer'),
        ("top_k", True, 'option "top_k" must be of type integer'),
        ("temperature", "0.5", 'option "temperature" must be of type float32'),
        ("use_mmap", "true", 'option "use_mmap" must be of type boolean'),
        ("stop", 5, 'option "stop" must be of type array'),
        ("stop", ["a", 5], 'option "stop" must be of an array of strings'),
        ("num_ctx", -1, 'option "num_ctx" must be 0 or at least 16'),
        ("num_ctx", 15, 'option "num_ctx" must be 0 or at least 16'),
    ],
)
def test_an_option_of_the_wrong_type_is_refused_in_the_words_of_the_peer(name: str, value: Any, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_options({name: value})
    assert str(caught.value) == message


@pytest.mark.req("GEN-06")
def test_null_is_not_given_and_unknown_names_are_returned() -> None:
    assert parse_options({"top_k": None, "numa": 1}) == ({}, ["numa"])


@pytest.mark.req("GEN-06", "GEN-07")
def test_the_requests_options_lie_over_the_models_over_the_defaults() -> None:
    options = resolve_options({"top_k": 5, "stop": ("m",)}, {"stop": ("r",)})
    assert (options.top_k, options.stop, options.temperature, options.num_keep) == (5, ("r",), 0.8, 4)


def test_the_page_about_options_is_the_table() -> None:
    page = (Path(__file__).parent.parent / "docs" / "options.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*)`)? \| .* \| (.+) \|$", page, re.M)
    assert [(name, text) for name, _, text in rows] == [(name, option.help) for name, (_, option) in TABLE.items()]
    for name, default, _ in rows:
        known = getattr(Options(), name)
        assert json.loads(default or "null") == (list(known) if isinstance(known, tuple) else known), name


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        ("seed", ["42"], 42),
        ("temperature", ["0"], 0.0),
        ("temperature", ["1.5"], 1.5),
        ("use_mmap", ["false"], False),
        ("use_mmap", ["1"], True),
        ("use_mmap", ["T"], True),
        ("deterministic", ["0"], False),
        ("stop", ["###", "END"], ("###", "END")),
        ("negative_prompt", ["1"], "1"),
        ("negative_prompt", ["a", "frog"], "a frog"),
        ("mirostat", ["2"], 2),
    ],
)
def test_words_that_people_type_become_what_the_option_holds(name: str, words: list[str], value: Any) -> None:
    assert read_option(name, words) == value


@pytest.mark.parametrize(
    ("name", "word", "message"),
    [
        ("seed", "x", 'option "seed" must be of type integer'),
        ("seed", "1.5", 'option "seed" must be of type integer'),
        ("temperature", "nan", 'option "temperature" must be of type float32'),
        ("use_mmap", "maybe", 'option "use_mmap" must be of type boolean'),
        ("nope", "1", 'unknown parameter "nope"'),
    ],
)
def test_words_that_do_not_fit_are_refused(name: str, word: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_option(name, [word])
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "hint"),
    [("tempature", "is temperature meant?"), ("Top_K", "is top_k meant?"), ("nope", "docs/options.md has all of them")],
)
def test_an_unknown_name_comes_with_the_one_that_it_resembles(name: str, hint: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_option(name, ["1"])
    assert caught.value.hint == hint


@pytest.mark.req("GEN-18")
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("guidance", 1e308, 'option "guidance" must be between 0 and 100'),
        ("guidance", float("nan"), 'option "guidance" must be of type float32'),
        ("guidance", -1, 'option "guidance" must be between 0 and 100'),
        ("strength", 1.5, 'option "strength" must be between 0 and 1'),
        ("n", 10**6, 'option "n" must be between 1 and 8'),
        ("n", 0, 'option "n" must be between 1 and 8'),
        ("preview", -1, 'option "preview" must be between 0 and 1000'),
        ("mask", 5, 'option "mask" must be of type string'),
        ("adapters", ["a"], 'option "adapters" must be an object of weights by the adapters\' names'),
        ("adapters", {"a": "x"}, 'option "adapters" must be of type float32'),
        ("adapters", {"a": 1e9}, 'option "adapters" must be weights between -100 and 100'),
        ("adapters", {str(n): 1 for n in range(65)}, '"adapters" holds 65 names, more than the 64 allowed'),
    ],
)
def test_what_a_picture_is_asked_for_is_bounded(name: str, value: Any, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_options({name: value})
    assert str(caught.value) == message


@pytest.mark.req("GEN-18")
def test_what_a_picture_is_asked_for_is_read() -> None:
    given = {"guidance": 7, "strength": 0.5, "n": 4, "preview": 5, "adapters": {"a": 0.5, "b": -1}}
    known, unknown = parse_options(given)
    assert known == {**given, "adapters": (("a", 0.5), ("b", -1.0))} and unknown == []
