"""What a grammar holds beyond its schema: texts end, objects are closed, patterns are whole."""

import json
import random
import re
from typing import Any

import pytest

from serow.constraints import compile_format
from serow.constraints.grammar import accepts
from serow.errors import FormatError
from tests.constraints.sampling import compiled, fits, random_texts

pytestmark = pytest.mark.req("GEN-12")

LONGEST_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,17})?")

NUMBERS: list[dict[str, Any]] = [
    {"type": "number"},
    {"type": "integer"},
    {"type": ["number", "null"]},
    {"type": "number", "minimum": 0},
    {"type": "number", "exclusiveMaximum": 5},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "minimum": -1.5, "multipleOf": 0.25},
    {"type": "integer", "maximum": -3},
    {"anyOf": [{"type": "number"}, {"type": "integer", "minimum": 7}]},
    {"allOf": [{"type": "number"}, {"minimum": 3}]},
    {"$ref": "#/$defs/n", "$defs": {"n": {"type": "number"}}},
    {"type": "array", "items": {"type": "number"}, "maxItems": 2},
    {"type": "array", "maxItems": 3},
    {"type": "object"},
    {"type": "object", "properties": {"a": {}}, "required": ["a"]},
    {},
]


def numbers(text: str) -> list[str]:
    """Every number outside of strings."""
    return re.findall(r"-?\d[\d.eE+-]*", re.sub(r'"(?:\\.|[^"\\])*"', '""', text))


@pytest.mark.parametrize("schema", NUMBERS)
def test_numbers_end(schema: dict[str, Any]) -> None:
    constraint = compiled(schema)
    assert constraint.warnings == ()
    texts = random_texts(constraint, 60)
    assert [number for text in texts for number in numbers(text) if not LONGEST_NUMBER.fullmatch(number)] == []
    assert all(fits(schema, text) for text in texts)
    text = {"type": "number", "integer": "number"}.get(str(schema.get("type")))
    assert text is None or not accepts(constraint.grammar, "1" * 19)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer", "minimum": 10**18}, str(10**18 + 7)),
        ({"type": "number", "minimum": 10**18, "maximum": 9 * 10**18}, str(2 * 10**18)),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1e-12}, "0.0000000000005"),
        ({"type": "integer"}, "-123456789012345678"),
        ({"type": "number"}, "3.1415926535"),
    ],
)
def test_bounds_say_otherwise(schema: dict[str, Any], text: str) -> None:
    assert accepts(compiled(schema).grammar, text)


NAMED = {"properties": {"a": {"const": 1}}}
CLOSED: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"type": "object", **NAMED}, ["{}", '{"a": 1}'], ['{"b": 1}', '{"a": 1, "b": 2}']),
    (NAMED, ['{"a": 1}'], ['{"a": 1, "b": 2}']),
    ({"type": "object", "properties": {}}, ["{}"], ['{"b": 1}']),
    ({**NAMED, "required": ["c"]}, ['{"a": 1, "c": 2}'], ['{"b": 1, "c": 2}']),
    ({**NAMED, "additionalProperties": True}, ['{"a": 1, "b": 2}'], []),
    ({**NAMED, "additionalProperties": {"const": 2}}, ['{"a": 1, "b": 2}'], ['{"a": 1, "b": 1}']),
    ({**NAMED, "minProperties": 2}, ['{"a": 1, "b": 2}'], []),
    ({"type": "object"}, ['{"b": 1}'], []),
    ({"allOf": [NAMED, {"properties": {"b": {"const": 2}}}]}, ['{"a": 1, "b": 2}'], ['{"a": 1, "c": 2}']),
    ({"allOf": [{"$ref": "#/$defs/x"}], "properties": {"b": {"const": 2}}, "$defs": {"x": NAMED}},
     ['{"b": 2, "a": 1}'], ['{"b": 2, "c": 1}']),
    ({"$ref": "#/$defs/x", "$defs": {"x": NAMED}}, ['{"a": 1}'], ['{"c": 1}']),
    ({"anyOf": [NAMED, {"properties": {"b": {"const": 2}}}]}, ['{"a": 1}', '{"b": 2}'], ['{"c": 1}']),
    ({**NAMED, "anyOf": [{"required": ["a"]}, {"properties": {"b": {"const": 2}}, "required": ["b"]}]},
     ['{"a": 1}', '{"b": 2}', '{"a": 1, "b": 2}'], ['{"a": 1, "c": 2}', "{}"]),
    ({"properties": {"in": {"type": "object", **NAMED}}}, ['{"in": {"a": 1}}'], ['{"in": {"b": 1}}']),
    ({"items": {"type": "object", **NAMED}, "type": "array"}, ['[{"a": 1}]'], ['[{"b": 1}]']),
    ({**NAMED, "patternProperties": {"^x": {"const": 3}}}, ['{"a": 1, "xy": 3}'], ['{"a": 1, "b": 3}']),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), CLOSED)
def test_an_object_with_properties_is_closed_unless_it_says_otherwise(
    schema: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    constraint = compiled(schema)
    assert [text for text in good if not accepts(constraint.grammar, text)] == []
    assert [text for text in bad if accepts(constraint.grammar, text)] == []
    assert all(constraint.validate(text) for text in good)


PATTERNS = [
    r"^[A-Z]:\\[A-Za-z0-9]+$", r'^"[^"]*"$', r"^line\n[0-9]$", r"^(?:[A-Z]\\)+[A-Z]{2}$", r"^\x7f[ab]+$",
    r'^[\\][a-z]{2}\x22[0-9]+"$', r"^[^\n]{1,9}\n[^\n]{1,9}$", r'^\s"\s$', r"^[\x00-\x1f]x$", r"^[\x00-\x20]+$", r'^[^\\"]{3}$',
]  # fmt: skip


def pattern_fits(pattern: str, value: str) -> bool:
    return re.search(re.sub(r"\$$", r"\\Z", pattern), value) is not None


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_holds_whatever_json_escapes(pattern: str) -> None:
    constraint = compiled({"type": "string", "pattern": pattern})
    assert constraint.warnings == ()
    values = [json.loads(text) for text in random_texts(constraint, 60)]
    assert [value for value in values if not pattern_fits(pattern, value)] == []


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_of_keys_holds_whatever_json_escapes(pattern: str) -> None:
    schema = {"type": "object", "patternProperties": {pattern: {"const": 1}}, "additionalProperties": False, "minProperties": 1}
    values = [json.loads(text) for text in random_texts(compiled({**schema, "maxProperties": 1}), 40)]
    keys = [key for value in values for key in value if "\U0010ffff" not in key]  # what no model writes may stand there
    assert [key for key in keys if not pattern_fits(pattern, key)] == []


ATOMS = (
    '"', r"\\", r"\n", '[^"]', r'[^\\"]', "[a-z]", "x", "[A-Z]+", '(?:a|"b)', r"\t?", r'[^"\\\x00-\x1f]', r"[\x00-\x20]", '"+',
    r"(?:\\)*", r"\x22", r"[\\]{2}", r"\s", r"\d", "é", "[^a]{1,2}", "/", r"\/",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_patterns_made_of_what_json_escapes_hold(seed: int) -> None:
    chance = random.Random(seed)
    pattern = f"^{''.join(chance.choice(ATOMS) for _ in range(chance.randint(1, 5)))}$"
    values = [json.loads(text) for text in random_texts(compiled({"type": "string", "pattern": pattern}), 12)]
    assert [value for value in values if not pattern_fits(pattern, value)] == []


WRAPPED = [
    ({"name": "string", "age": "integer"}, "constrain nothing"),
    ({"type": "json_object"}, 'give "json"'),
    ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}, 'what is in "json_schema"'),
    ({"type": "json_schema", "name": "x", "schema": {"type": "object"}}, 'what is in "schema"'),
    ({"type": "text"}, "how another API says it"),
    ({"schema": {"type": "object"}}, 'what is in "schema"'),
    ({"name": "x", "strict": True, "schema": {"type": "object"}}, 'what is in "schema"'),
    ({"json_schema": {"type": "object"}}, 'what is in "json_schema"'),
    ({"response_format": {"type": "json_object"}}, 'what is in "response_format"'),
    ({"title": "T", "description": "D"}, "constrain nothing"),
    ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, "constrains nothing"),
    ({"regex": "a", "grammar": "b"}, "constrain nothing"),
    ({"Type": "object", "Properties": {}}, "constrain nothing"),
    ({"x-strict": True}, "constrains nothing"),
]


@pytest.mark.parametrize(("format", "said"), WRAPPED)
def test_what_constrains_nothing_is_refused_and_says_what_was_expected(format: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=r"^invalid format: ") as caught:
        compile_format(format)
    assert said in str(caught.value)
    assert 'expected "json" or a JSON Schema' in str(caught.value)
