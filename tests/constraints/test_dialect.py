"""Every draft, and mixes of them, mean what they say."""

from typing import Any

import pytest

from tests.constraints.sampling import compiled, fits, random_texts

pytestmark = pytest.mark.req("GEN-12")

D4, D7 = "http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-07/schema#"

# schema, texts that fit, texts that do not
MEANINGS: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"$schema": D4, "type": "integer", "minimum": 3, "exclusiveMinimum": True, "maximum": 5}, ["4", "5"], ["3", "6"]),
    ({"type": "integer", "minimum": 3, "exclusiveMinimum": False, "maximum": 5}, ["3"], ["2"]),
    ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}, ["4"], ["3", "5"]),
    ({"type": "array", "items": [{"const": 1}], "additionalItems": False}, ["[]", "[1]"], ["[2]", "[1, 1]"]),
    ({"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}}, ["[1, 2]"], ["[2]", "[1, 1]"]),
    ({"type": "object", "dependencies": {"a": ["b"]}}, ["{}", '{"b": 1}', '{"a": 1, "b": 1}'], ['{"a": 1}']),
    ({"type": "object", "dependencies": {"a": {"required": ["b"]}}}, ['{"b": 1}'], ['{"a": 1}']),
    ({"$schema": D7, "$ref": "#/definitions/a", "type": "string", "definitions": {"a": {"const": 1}}}, ["1"], ['"x"']),
    ({"$ref": "#/$defs/a", "maximum": 2, "$defs": {"a": {"enum": [1, 3]}}}, ["1"], ["3"]),
    ({"$ref": "#/odd/place", "odd": {"place": {"const": 1}}}, ["1"], ["2"]),
    ({"$ref": "#/$defs/a~1b%25", "$defs": {"a/b%": {"const": 1}}}, ["1"], ["2"]),
    ({"$ref": "#here", "$defs": {"a": {"$anchor": "here", "const": 1}}}, ["1"], ["2"]),
    ({"$schema": D4, "$ref": "#here", "definitions": {"a": {"id": "#here", "enum": [1]}}}, ["1"], ["2"]),
    ({"$id": "http://x/s.json", "$ref": "http://x/s.json#/$defs/a", "$defs": {"a": {"const": 1}}}, ["1"], ["2"]),
    ({"$id": "http://x/s.json", "$ref": "t.json", "$defs": {"a": {"$id": "t.json", "const": 1}}}, ["1"], ["2"]),
    ({"type": "object", "properties": {"a": {}}, "unevaluatedProperties": False}, ['{"a": 1}'], ['{"b": 1}']),
    ({"type": "array", "items": {"$recursiveRef": "#"}}, ["[[], []]"], ["[1]", "{}"]),
    ({"type": "string", "pattern": r"^[\w-.]+$"}, ['"a-.b"'], ['"a b"']),
    ({"type": "string", "pattern": "^{a}$"}, ['"{a}"'], ['"a"']),
    ({"type": "string", "pattern": r"^\d{1,2000}$"}, ['"12"'], []),
    ({"type": ["object", "object"], "required": ["a", "a"]}, ['{"a": 1}'], ["{}", "1"]),
    ({"type": "string", "minLength": 2.0, "x-pattern": "("}, ['"ab"'], ['"a"']),
    ({"type": "array", "contains": {"const": 1}, "unevaluatedItems": False}, ["[1]"], ["[1, 2]", "[]"]),
    ({"definitions": {"bad": {"type": "nope"}}, "type": "null"}, ["null"], ["1"]),
]


@pytest.mark.parametrize(("schema", "good", "bad"), MEANINGS)
def test_a_keyword_of_any_draft_means_what_its_draft_says(schema: dict[str, Any], good: list[str], bad: list[str]) -> None:
    constraint = compiled(schema)
    assert [text for text in good if not constraint.validate(text)] == []
    assert [text for text in bad if constraint.validate(text)] == []
    assert constraint.warnings or all(constraint.validate(text) for text in random_texts(constraint, 5))


def test_a_recursive_schema_makes_texts_that_end() -> None:
    tree = {
        "type": "object",
        "properties": {"value": {"type": "boolean"}, "children": {"type": "array", "maxItems": 2, "items": {"$ref": "#"}}},
        "required": ["value"],
        "additionalProperties": False,
    }
    constraint = compiled(tree)
    assert constraint.warnings == ()
    assert all(fits(tree, text) for text in random_texts(constraint))
