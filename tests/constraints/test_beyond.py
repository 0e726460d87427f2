"""Formats beside JSON: a regular expression, a choice, a grammar."""

from typing import Any

import pytest

from serow.constraints import compile_format
from serow.errors import FormatError
from tests.constraints.sampling import compiled, random_texts

pytestmark = pytest.mark.req("GEN-12")

TEXTS: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"regex": "[0-9]{3}-[a-z/]+"}, ["123-a/b"], ["123-", "x123-a", '"123-a"']),
    ({"regex": "^(yes|no)$"}, ["yes", "no"], ["maybe"]),
    ({"regex": "a\nb"}, ["a\nb"], ["ab"]),
    ({"regex": r"\d\d"}, ["42"], ["4"]),
    ({"choice": ["red", "green", "light red"]}, ["red", "light red"], ["re", "red ", '"red"']),
    ({"choice": ["a/b", 'say "hi"', "c\nd", "é.*"]}, ["a/b", 'say "hi"', "c\nd", "é.*"], ["éx"]),
    ({"grammar": 'root ::= "a" tail\ntail ::= [0-9]+ | "!"'}, ["a12", "a!"], ["a", "b1"]),
    ({"grammar": 'start: greeting " " NAME\ngreeting: "hello" | "hi"\nNAME: /[A-Z][a-z]+/'}, ["hi Ann"], ["hi ann"]),
    ({"grammar": '%llguidance {}\nstart: "x"{2,3}'}, ["xx", "xxx"], ["x"]),
]


@pytest.mark.parametrize(("format", "good", "bad"), TEXTS)
def test_a_text_must_match_whole(format: dict[str, Any], good: list[str], bad: list[str]) -> None:
    constraint = compiled(format)
    assert [text for text in good if not constraint.validate(text)] == []
    assert [text for text in bad if constraint.validate(text)] == []
    assert all(constraint.validate(text) for text in random_texts(constraint, 5))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"regex": "("}, "regex: "),
    ({"regex": "(?=a)b"}, "regex: "),
    ({"regex": ""}, '"regex" must be a string'),
    ({"regex": 5}, '"regex" must be a string'),
    ({"choice": []}, '"choice" must be a list'),
    ({"choice": "a"}, '"choice" must be a list'),
    ({"choice": ["a", 1]}, '"choice" must be a list'),
    ({"choice": [""]}, '"choice" must be a list'),
    ({"grammar": ""}, '"grammar" must be a string'),
    ({"grammar": "root ::= ("}, "grammar: Expected ')' at line 1"),
    ({"grammar": "root ::= nope"}, 'grammar: no rule is named "nope"'),
    ({"grammar": 'rule ::= "a"'}, 'grammar: no rule is named "root"'),
    ({"grammar": 'root ::= a-b a_b\na-b ::= "a"\na_b ::= "b"'}, 'more than one rule is called "a_b"'),
    ({"grammar": "start: nope"}, "grammar: "),
    ({"grammar": "start: <no_such_token>"}, "grammar: "),
    ({"grammar": "hello"}, "grammar: "),
    ({"grammar": 'start: %json {"type": "array", "minItems": 1000000000}'}, "grammar: %json is not supported"),
]


@pytest.mark.parametrize(("format", "said"), WRONG)
def test_a_wrong_one_is_refused_and_says_why(format: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError) as caught:
        compile_format(format)
    assert str(caught.value).startswith("invalid format: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_beside_other_keys_the_three_are_unknown_keywords_of_a_schema() -> None:
    constraint = compiled({"type": "integer", "regex": "("})
    assert constraint.validate("5")


def test_gbnf_stays_for_engines_that_read_it() -> None:
    assert compiled({"grammar": 'root ::= "a"'}).gbnf == 'root ::= "a"'
    assert compiled({"choice": ["a", "b"]}).gbnf == 'root ::= "a" | "b"'
    assert compiled({"grammar": 'start: "a"'}).gbnf == ""
