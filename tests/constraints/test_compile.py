"""What is a format, what is none, and what is said of it."""

import json
from typing import Any

import pytest

from serow.constraints import compile_format
from serow.constraints.grammar import accepts
from serow.errors import FormatError
from tests.constraints.sampling import compiled, fits, random_texts

pytestmark = pytest.mark.req("GEN-12")


@pytest.mark.parametrize("format", [None, ""])
def test_no_format_is_no_constraint(format: Any) -> None:
    assert compile_format(format) is None


@pytest.mark.parametrize("format", ["yaml", "JSON", 5, 1.5, True, [], ["json"]])
def test_what_is_neither_json_nor_a_schema_is_refused_in_the_peers_words(format: Any) -> None:
    with pytest.raises(FormatError) as caught:
        compile_format(format)
    quoted = json.dumps(json.dumps(format, separators=(",", ":")))
    assert str(caught.value) == f'invalid format: {quoted}; expected "json" or a valid JSON Schema object'


def test_json_allows_any_object_and_nothing_else() -> None:
    constraint = compiled("json")
    assert all(isinstance(json.loads(text), dict) for text in random_texts(constraint))
    assert constraint.validate('{"a": [1, null]}')
    assert not constraint.validate("[1]")


WHERE = [
    ({"type": 5}, '"type" at # must be one or more of'),
    ({"type": "nope"}, '"type" at # must be one or more of'),
    ({"type": []}, '"type" at #'),
    ({"properties": {"a": {"items": 3}}}, '"items" at #/properties/a must be a schema'),
    ({"properties": {"a/b": {"minimum": "x"}}}, '"minimum" at #/properties/a~1b must be a number'),
    ({"$ref": "#/definitions/a", "definitions": {"a": {"maxLength": -1}}}, '"maxLength" at #/definitions/a must be'),
    ({"required": True}, '"required" at # must be a list of strings'),
    ({"anyOf": []}, '"anyOf" at # must be a list of schemas'),
    ({"allOf": [7]}, "a schema must be an object or a boolean at #/allOf/0"),
    ({"dependencies": {"a": [1]}}, '"dependentRequired" at #'),
    ({"$ref": "http://127.0.0.1:1/x"}, '"$ref" at # points outside the schema, and nothing is fetched'),
    ({"items": {"$ref": "other.json"}}, '"$ref" at #/items points outside the schema'),
    ({"$ref": "#/nope"}, '"$ref" at # points to nothing'),
    ({"$ref": "#nope"}, '"$ref" at # points to nothing'),
    ({"$ref": "#"}, '"$ref" at # refers to itself'),
    ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "#/$defs/a refers to itself"),
    ({"type": "string", "pattern": "("}, "a pattern at # is not a regular expression"),
    ({"patternProperties": {"[": {}}}, "a pattern at # is not a regular expression"),
    ({"x-strict": 1}, '"x-strict" must be a boolean'),
]


@pytest.mark.parametrize(("schema", "said"), WHERE)
def test_what_is_no_schema_is_refused_and_says_where(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=r"^invalid format: ") as caught:
        compile_format(schema)
    assert said in str(caught.value)


UNSATISFIABLE = [
    ({"not": {}}, '"not" at #'),
    ({"enum": []}, '"enum" at #'),
    ({"type": "integer", "minimum": 5, "maximum": 1}, '"minimum" and "maximum" at #'),
    ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "at #"),
    ({"type": "object", "required": ["a"], "additionalProperties": False}, '"required" at #'),
    ({"type": "object", "properties": {"a": False}, "required": ["a"]}, '"properties" and "required" at #'),
    ({"allOf": [{"type": "string"}, {"type": "integer"}]}, '"type" at #'),
    ({"type": "string", "enum": [1, 2]}, '"enum" at #'),
    ({"type": "string", "pattern": "^a{5}$", "maxLength": 2}, "at #"),
    ({"type": "array", "items": {"type": "string", "pattern": "^a{5}$", "maxLength": 2}, "minItems": 1}, "at #/items"),
    ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "contains itself"),
    ({"type": "array", "minItems": 1, "items": {"enum": []}}, '"enum" at #/items'),
]


@pytest.mark.parametrize(("schema", "said"), UNSATISFIABLE)
def test_what_nothing_can_satisfy_is_refused_and_says_where(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=r"^invalid format: nothing") as caught:
        compile_format(schema)
    assert said in str(caught.value)


def test_an_unsatisfiable_part_that_may_be_left_out_is_left_out() -> None:
    constraint = compiled(
        {"type": "object", "properties": {"a": {"enum": []}, "b": {"const": 1}}, "additionalProperties": False}
    )
    assert {"{}", '{"b": 1}'} == set(random_texts(constraint))


def test_unknown_keywords_and_formats_are_annotations() -> None:
    constraint = compiled({"type": "string", "format": "int64", "x-order": 5, "title": "T", "nullable": True})
    assert constraint.warnings == ()
    assert constraint.validate('"anything"')


def test_known_formats_are_enforced() -> None:
    constraint = compiled({"type": "string", "format": "ipv4"})
    assert all(text.count(".") == 3 for text in random_texts(constraint))
    assert not constraint.validate('"anything"')


def test_there_is_one_space_after_commas_and_colons_and_properties_keep_their_order() -> None:
    parts = {"b": {"const": 1}, "a": {"const": [1, 2]}}
    constraint = compiled({"type": "object", "properties": parts, "required": ["a", "b"], "additionalProperties": False})
    assert set(random_texts(constraint)) == {'{"b": 1, "a": [1, 2]}'}


@pytest.mark.parametrize("text", ["", "{", '{"a": NaN}', "[" * 5000 + "]" * 5000, '{"a": 1} x', "{'a': 1}"])
def test_a_text_that_is_no_json_is_not_valid(text: str) -> None:
    assert not compiled({}).validate(text)


def test_a_number_beyond_floats_is_valid_json() -> None:
    assert compiled({"type": "number"}).validate("1e999")


def test_strict_refuses_what_would_be_relaxed_and_takes_what_can_be_followed() -> None:
    exact = {"type": "object", "not": {"required": ["a"]}, "x-strict": True}
    assert compiled(exact).warnings == ()
    with pytest.raises(FormatError, match=r"invalid format: uniqueItems .*#/items.* x-strict is set"):
        compile_format({"items": {"uniqueItems": True}, "x-strict": True})


def test_a_relaxed_keyword_is_named_with_its_places_and_checked_in_the_end() -> None:
    constraint = compiled({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True})
    assert constraint.warnings == ("format: uniqueItems is checked after sampling, not while (#)",)
    assert constraint.validate("[1, 2]")
    assert not constraint.validate("[1, 1]")


def test_texts_of_a_large_enum_fit() -> None:
    schema = {"enum": [f"choice {number}" for number in range(5000)]}
    assert all(fits(schema, text) for text in random_texts(compiled(schema), 5))


@pytest.mark.req("GEN-12")
def test_a_constant_keeps_every_digit_of_its_numbers() -> None:
    constraint = compile_format({"const": {"big": 12345678901234567890, "text": '"q" \\ é\n'}})
    assert constraint is not None
    assert accepts(constraint.grammar, '{"big": 12345678901234567890, "text": "\\"q\\" \\\\ é\\n"}')
    assert not accepts(constraint.grammar, '{"big": 12345678901234567000, "text": "\\"q\\" \\\\ é\\n"}')
