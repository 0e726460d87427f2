"""What a grammar can't follow is said in other words, or relaxed, named and checked in the end."""

import json
from typing import Any

import pytest

from tests.constraints.sampling import compiled, fits, random_texts

pytestmark = pytest.mark.req("GEN-12")

KIND = {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}, "x": {"type": "integer"}}, "required": ["kind"]}

EXACT: list[dict[str, Any]] = [
    {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "boolean"}]},
    {"oneOf": [{"type": "string", "maxLength": 5}, {"type": "string", "minLength": 3, "maxLength": 8}]},
    {"oneOf": [{**KIND, "properties": {"kind": {"const": name}}, "additionalProperties": False} for name in "ab"]},
    {"type": "object", "properties": {"z": {"type": "null"}, "a": {"type": "null"}}, "additionalProperties": False,
     "oneOf": [{"required": ["z"]}, {"required": ["a"]}]},
    {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "not": {"required": ["a"]}},
    {"type": "integer", "minimum": 0, "maximum": 3, "not": {"const": 2}},
    {"not": {"type": ["object", "array", "string", "number"]}},
    {**KIND, "if": {"properties": {"kind": {"const": "a"}}}, "then": {"required": ["x"]}, "else": {"not": {"required": ["x"]}}},
    {**KIND, "dependentRequired": {"x": ["y"]}},
    {**KIND, "dependentSchemas": {"x": {"properties": {"kind": {"const": "a"}}}}},
    {"type": "object", "propertyNames": {"pattern": "^[a-c]$"}, "additionalProperties": {"type": "null"}},
    {"type": "object", "propertyNames": {"enum": ["a", "b"]}},
    {"type": "object", "properties": {"a": {"type": "null"}}, "allOf": [{"properties": {"b": {"type": "null"}}}],
     "unevaluatedProperties": False},
]  # fmt: skip


@pytest.mark.parametrize("schema", EXACT)
def test_what_can_be_said_in_other_words_is_enforced_without_a_warning(schema: dict[str, Any]) -> None:
    constraint = compiled(schema)
    assert constraint.warnings == ()
    assert [text for text in random_texts(constraint) if not fits(schema, text)] == []


RELAXED: list[tuple[str, dict[str, Any], str, str]] = [
    ("uniqueItems", {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "maxItems": 4}, "[1, 2]", "[1, 1]"),
    ("not", {"type": "string", "maxLength": 3, "not": {"pattern": "^a"}}, '"b"', '"a"'),
    ("oneOf", {"oneOf": [{"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}]}, '"a"', '"ab"'),
    ("if", {"if": {"pattern": "a"}, "then": {"maxLength": 2}, "else": {"maxLength": 4}, "type": "string"}, '"a"', '"aaa"'),
    ("contains", {"type": "array", "items": {"enum": [1, 2]}, "contains": {"const": 1}, "maxItems": 3}, "[2, 1]", "[2]"),
    ("propertyNames", {"type": "object", "propertyNames": {"maxLength": 1}}, '{"a": 1}', '{"ab": 1}'),
    ("pattern", {"type": "string", "pattern": "^(?!a)", "maxLength": 4}, '"b"', '"ab"'),
    ("pattern", {"type": "string", "pattern": r"^(\w)\1$", "maxLength": 4}, '"aa"', '"ab"'),
    ("patternProperties", {"type": "object", "patternProperties": {"^a": {"const": 1}, "b$": {"const": 2}},
                           "additionalProperties": False}, '{"a": 1}', '{"a": 2}'),
    ("minProperties", {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "minProperties": 2},
     '{"a": 1, "b": 1}', '{"a": 1}'),
    ("maxItems", {"type": "array", "items": {"type": "null"}, "maxItems": 20_000}, "[null]", f"[{'null, ' * 20_000}null]"),
]  # fmt: skip


@pytest.mark.parametrize(("keyword", "schema", "good", "bad"), RELAXED)
def test_what_cant_be_followed_is_named_and_checked_in_the_end(
    keyword: str, schema: dict[str, Any], good: str, bad: str
) -> None:
    constraint = compiled(schema)
    assert [warning.split()[1] for warning in constraint.warnings] == [keyword]
    assert constraint.validate(good)
    assert not constraint.validate(bad)
    assert all(json.loads(text) is not Ellipsis for text in random_texts(constraint, 5))


@pytest.mark.parametrize(("keyword", "schema", "good", "bad"), RELAXED)
def test_relaxing_never_forbids_what_fits(keyword: str, schema: dict[str, Any], good: str, bad: str) -> None:
    from serow.constraints.grammar import accepts

    assert accepts(compiled(schema).grammar, good)


def test_the_rest_of_a_relaxed_schema_is_still_enforced() -> None:
    schema = {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "maxItems": 4}
    loose = {key: value for key, value in schema.items() if key != "uniqueItems"}
    assert all(fits(loose, text) for text in random_texts(compiled(schema)))


def test_properties_of_rewritten_parts_keep_their_order() -> None:
    branch = {"properties": {"z": {"const": 1}, "a": {"const": 1}}, "required": ["z", "a"], "additionalProperties": False}
    constraint = compiled({"type": "object", "if": {"required": ["z"]}, "then": branch, "else": False})
    assert set(random_texts(constraint)) == {'{"z": 1, "a": 1}'}


def test_places_beyond_three_are_counted() -> None:
    items = {"uniqueItems": True}
    constraint = compiled({"properties": dict.fromkeys("abcde", items)})
    assert constraint.warnings == (
        "format: uniqueItems is checked after sampling, not while (#/properties/a, #/properties/b, #/properties/c and 2 more)",
    )


def test_references_in_circles_with_keywords_beside_them_still_compile() -> None:
    node = {"properties": {"next": {"$ref": "#/$defs/node", "required": ["v"]}}, "$ref": "#/$defs/base"}
    schema = {"$defs": {"base": {"type": "object"}, "node": node}, "$ref": "#/$defs/node", "required": ["next"]}
    assert compiled(schema).validate('{"next": {"v": 1}}')
