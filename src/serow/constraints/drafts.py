"""Keywords of older drafts of JSON Schema as those of 2020-12.

Source: the release notes of drafts 6, 7, 2019-09 and 2020-12.
"""

from typing import Any

from serow.constraints.keywords import IN_PLACE, KEYWORDS, LIMITS, UNCHECKED_PATTERN
from serow.constraints.patterns import plain_pattern

# formats that the grammar compiler knows: these are enforced, all others are annotations
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})


def modern(raw: dict[str, Any]) -> dict[str, Any]:
    """One schema object with keywords of 2020-12 only, the older ones under their newer names. Nothing is checked."""
    node = dict(raw)
    _modernise_bounds(node)
    _modernise_items(node)
    _modernise_dependencies(node)
    _modernise_patterns(node)
    _tidy_values(node)
    for old in ("$recursiveRef", "$dynamicRef"):
        if old in node:
            node.setdefault("$ref", node.pop(old))
    if isinstance(node.get("format"), str) and node["format"] not in FORMATS:
        del node["format"]
    if not IN_PLACE & node.keys() and "$ref" not in node:
        _settle_unevaluated(node)
    return {key: value for key, value in node.items() if key in KEYWORDS and key != UNCHECKED_PATTERN}


def _modernise_bounds(node: dict[str, Any]) -> None:
    """Draft 4: a boolean `exclusiveMinimum` says how to read `minimum`."""
    for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(node.get(exclusive), bool) and node.pop(exclusive) and inclusive in node:
            node[exclusive] = node.pop(inclusive)


def _modernise_items(node: dict[str, Any]) -> None:
    """Up to 2019-09: a list in `items` says what the first items are, `additionalItems` the others."""
    if isinstance(node.get("items"), list):
        prefix, rest = node.pop("items"), node.pop("additionalItems", True)
        if prefix:
            node["prefixItems"] = prefix
        if rest is not True:
            node["items"] = rest


def _modernise_dependencies(node: dict[str, Any]) -> None:
    """Up to draft 7: `dependencies` holds lists of names and schemas alike."""
    dependencies = node.get("dependencies")
    if isinstance(dependencies, dict):
        del node["dependencies"]
        names = {key: value for key, value in dependencies.items() if isinstance(value, list)}
        schemas = {key: value for key, value in dependencies.items() if not isinstance(value, list)}
        if names:
            node.setdefault("dependentRequired", names)
        if schemas:
            node.setdefault("dependentSchemas", schemas)


def _modernise_patterns(node: dict[str, Any]) -> None:
    if isinstance(node.get("pattern"), str):
        node["pattern"] = plain_pattern(node["pattern"])
    if isinstance(node.get("patternProperties"), dict):
        node["patternProperties"] = {plain_pattern(key): value for key, value in node["patternProperties"].items()}


def _tidy_values(node: dict[str, Any]) -> None:
    """Names once, and counts as integers: readers differ in what else they take."""
    for key in ("type", "required"):
        node.update({key: _once(node[key])} if isinstance(node.get(key), list) else {})
    if isinstance(dependent := node.get("dependentRequired"), dict):
        node["dependentRequired"] = {key: _once(names) for key, names in dependent.items()}
    for key in LIMITS:
        if isinstance(count := node.get(key), float) and count.is_integer():
            node[key] = int(count)


def _once(names: Any) -> Any:
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return list(dict.fromkeys(names)) if is_list else names


def _settle_unevaluated(node: dict[str, Any]) -> None:
    """Without schemas in place beside them, what is unevaluated is what is additional."""
    if "unevaluatedProperties" in node:
        node.setdefault("additionalProperties", node.pop("unevaluatedProperties"))
    if "unevaluatedItems" in node and "contains" not in node:
        node.setdefault("items", node.pop("unevaluatedItems"))
