"""Schemas of our own OpenAPI document: what fits them, and values drawn from them."""

from typing import Any

import jsonschema
from hypothesis import strategies as st

Document = dict[str, Any]
Schema = dict[str, Any]

_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=20),
    "integer": st.integers(0, 40) | st.integers(-2, 40) | st.integers(-(2**70), 2**70),
    "number": st.floats(0, 1) | st.integers(-2, 40) | st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "null": st.none(),
}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def validator(document: Document, kind: str) -> jsonschema.Draft202012Validator:
    """Says whether a value is a `kind` of the document."""
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{kind}", "components": document["components"]})


@st.composite
def some_of(draw: st.DrawFn, fields: dict[str, st.SearchStrategy[Any]]) -> dict[str, Any]:
    """A few of the fields: with all of them, one that is wrong would hide the others."""
    names = draw(st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True)) if fields else []
    return {name: draw(fields[name]) for name in names}


def values(document: Document, schema: Schema) -> st.SearchStrategy[Any]:
    """Values that fit a schema."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return st.deferred(lambda: values(document, document["components"]["schemas"][name]))
    if "anyOf" in schema:
        return st.one_of([values(document, choice) for choice in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema.get("type", [])
    found = [_of_type(document, schema, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    return st.one_of(found) if found else ANY_JSON


def _of_type(document: Document, schema: Schema, kind: str) -> st.SearchStrategy[Any]:
    if kind == "array" and "prefixItems" in schema:
        return st.tuples(*(values(document, each) for each in schema["prefixItems"])).map(list)
    if kind == "array":
        return st.lists(values(document, schema.get("items", {})), max_size=4)
    if kind == "object":
        fields = {name: values(document, each) for name, each in schema.get("properties", {}).items()}
        more = schema.get("additionalProperties", {})
        others = st.dictionaries(st.text(max_size=8), values(document, more if isinstance(more, dict) else {}), max_size=3)
        return some_of(fields) if fields else others
    return _SCALARS[kind]
