"""The same schema in other words: without the keywords that a grammar can't follow, where jsonschema-rs can say it so."""

from typing import Any

from serow.constraints.dialect import Document
from serow.constraints.keywords import KEYWORDS, UNCHECKED_PATTERN, Schema, remade, subschemas

MOST_REWRITTEN = 400  # schemas that it may take

# what the grammar compiler follows; the others are said in other words or given up
FOLLOWED = frozenset(KEYWORDS) - {
    "oneOf", "not", "if", "then", "else", "uniqueItems", "contains", "minContains", "maxContains", "propertyNames",
    "dependentRequired", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties",
}  # fmt: skip


def in_other_words(document: Document, node: dict[str, Any], group: dict[str, Any]) -> Schema | None:
    """A node that holds the keywords of a group, said with followed keywords; None where that can't be."""
    canonical = None if _has_unchecked(group) else _canonical(document, node)
    if canonical is None:
        return None
    said = _tidy(canonical)
    if _size(said) > MOST_REWRITTEN or not _is_followed(said):
        return None
    return _in_order(said, {name: index for index, name in enumerate(_property_names(group))})


def _canonical(document: Document, node: dict[str, Any]) -> Schema | None:
    from jsonschema_rs import Draft202012, canonical, canonicalize

    try:
        form = canonicalize(document.around(node), offline=True, draft=Draft202012, validate_formats=True)
    except canonical.CanonicalizationError:
        return None
    result: Any = form.to_json_schema()
    if isinstance(result, dict):
        return {key: value for key, value in result.items() if key not in ("$schema", "$defs")}
    return bool(result)


def _tidy(node: Schema) -> Schema:
    """The rewritten form says `additionalProperties: false` as an enum of `propertyNames`: said back."""
    if isinstance(node, bool):
        return node
    if node == {"not": {}}:
        return False
    out = remade(node, lambda child, *_: _tidy(child))
    names = out.get("propertyNames")
    if isinstance(names, dict) and "patternProperties" not in out:
        if names.keys() == {"enum"}:
            rest = out.get("additionalProperties", True)
            out["properties"] = {name: out.get("properties", {}).get(name, rest) for name in names["enum"]}
            out["additionalProperties"] = False
            del out["propertyNames"]
        elif names.keys() <= {"pattern", "type"} and "pattern" in names and "properties" not in out:
            out["patternProperties"] = {names["pattern"]: out.get("additionalProperties", True)}
            out["additionalProperties"] = False
            del out["propertyNames"]
    return out


def _is_followed(node: Schema) -> bool:
    return isinstance(node, bool) or (node.keys() <= FOLLOWED and all(_is_followed(child) for _, _, child in subschemas(node)))


def _has_unchecked(node: Schema) -> bool:
    """Whether a pattern would be lost, being an annotation there."""
    if isinstance(node, bool):
        return False
    return UNCHECKED_PATTERN in node or any(_has_unchecked(child) for _, _, child in subschemas(node))


def _size(node: Schema) -> int:
    return 1 if isinstance(node, bool) else 1 + sum(_size(child) for _, _, child in subschemas(node))


def _property_names(node: Schema) -> list[str]:
    """Every property named in a schema, in order of appearance."""
    if isinstance(node, bool):
        return []
    names = [*node.get("properties", {}), *node.get("required", ())]
    for _, _, child in subschemas(node):
        names += _property_names(child)
    return list(dict.fromkeys(names))


def _in_order(node: Schema, order: dict[str, int]) -> Schema:
    """Properties in their first order: the rewritten form sorts them by name."""
    if isinstance(node, bool):
        return node
    out = remade(node, lambda child, *_: _in_order(child, order))
    if "properties" in out:
        out["properties"] = dict(sorted(out["properties"].items(), key=lambda item: order.get(item[0], len(order))))
    return out
