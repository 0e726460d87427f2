"""A schema as the grammar compiler can follow it: the same where possible, else the nearest superset."""

import time
from dataclasses import dataclass, field
from typing import Any

from serow.constraints.dialect import Document
from serow.constraints.keywords import LIMITS, UNCHECKED_PATTERN, Schema, rebuild, step
from serow.constraints.rewrite import FOLLOWED, in_other_words
from serow.constraints.satisfiable import are_disjoint, is_cheap

MOST_BRANCHES = 64  # of a oneOf that are compared pair by pair

# keywords that mean something only together, named by the first
_GROUPS = (
    ("oneOf",),
    ("not",),
    ("if", "then", "else"),
    ("dependentRequired",),
    ("dependentSchemas",),
    ("propertyNames",),
    ("contains", "minContains", "maxContains"),
    ("uniqueItems",),
)
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")


@dataclass
class Relaxed:
    """The relaxed document, and per keyword given up where it stood ("#/…")."""

    document: Document
    given_up: dict[str, list[str]] = field(default_factory=dict)

    def give_up(self, keyword: str, where: str) -> None:
        self.given_up.setdefault(keyword, []).append(where)


def relax(document: Document, deadline: float) -> Relaxed:
    """Relax every schema of the document; after the deadline (time.thread_time()) quickly. Definitions keep their names."""
    relaxed = Relaxed(document)
    relaxer = _Relaxer(document, relaxed, deadline)
    root = relaxer.schema(document.root, "")
    defs = {name: relaxer.schema(schema, f"/$defs/{name}") for name, schema in document.defs.items()}
    relaxed.document = Document(root, defs, document.origins)
    return relaxed


class _Relaxer:
    def __init__(self, document: Document, relaxed: Relaxed, deadline: float) -> None:
        self._document = document
        self._relaxed = relaxed
        self._deadline = deadline

    def schema(self, node: Schema, pointer: str) -> Schema:
        if isinstance(node, bool):
            return node
        out = rebuild({key: value for key, value in node.items() if key in FOLLOWED}, self.schema, pointer)
        if UNCHECKED_PATTERN in out:
            out["pattern"] = out.pop(UNCHECKED_PATTERN)
        for key in [key for key in out if key.startswith("max") and out[key] > LIMITS.get(key, out[key])]:
            del out[key]
            self._give_up(key, pointer)
        extra = [self._group(node, group, pointer) for group in _GROUPS if group[0] in node]
        if any(key in node for key in _UNEVALUATED):
            extra.append(self._unevaluated(node, pointer))
        extra = [schema for schema in extra if schema is not True]
        if extra:
            out["allOf"] = [*out.get("allOf", ()), *extra]
        return out

    def _group(self, node: dict[str, Any], names: tuple[str, ...], pointer: str) -> Schema:
        """One group of keywords as a schema of its own."""
        group = {key: node[key] for key in names if key in node}
        if names == ("uniqueItems",):
            return self._give_up(names[0], pointer) if group["uniqueItems"] else True
        if names == ("oneOf",) and self._is_disjoint(node):
            return self._any_of(group["oneOf"], step(pointer, "oneOf"))
        if names == ("propertyNames",) and "additionalProperties" in node:
            if "properties" in node or "patternProperties" in node:
                return self._give_up(names[0], pointer)  # the grammar compiler mixes up patterns and additional properties
            group["additionalProperties"] = node["additionalProperties"]
        for part in (group | {"type": node["type"]} if "type" in node else group, node):
            said = self._in_other_words(part, group)
            if said is not None:
                return said
        self._give_up(names[0], pointer)
        return self._superset(group, pointer)

    def _unevaluated(self, node: dict[str, Any], pointer: str) -> Schema:
        """What is unevaluated depends on all the other keywords."""
        said = self._in_other_words(node, node)
        if said is None:
            for key in _UNEVALUATED:
                if key in node:
                    self._give_up(key, pointer)
        return True if said is None else said

    def _is_disjoint(self, node: dict[str, Any]) -> bool:
        branches = node["oneOf"]
        if len(branches) > MOST_BRANCHES or time.thread_time() > self._deadline:
            return False
        if not is_cheap(self._document, {"oneOf": branches}):
            return False
        typed = {"type": node["type"]} if "type" in node else {}
        return are_disjoint(self._document, [{"allOf": [typed, branch]} for branch in branches])

    def _any_of(self, branches: list[Schema], pointer: str) -> Schema:
        return {"anyOf": [self.schema(branch, step(pointer, index)) for index, branch in enumerate(branches)]}

    def _in_other_words(self, node: dict[str, Any], group: dict[str, Any]) -> Schema | None:
        if time.thread_time() > self._deadline or not is_cheap(self._document, node):
            return None
        return in_other_words(self._document, node, group)

    def _give_up(self, keyword: str, pointer: str) -> Schema:
        self._relaxed.give_up(keyword, self._document.where(pointer))
        return True

    def _superset(self, group: dict[str, Any], pointer: str) -> Schema:
        """The nearest schema that the group's values all fit."""
        if "oneOf" in group:
            return self._any_of(group["oneOf"], step(pointer, "oneOf"))
        if "then" in group and "else" in group:
            return {"anyOf": [self.schema(group[key], step(pointer, key)) for key in ("then", "else")]}
        if "contains" in group:
            return {"minItems": group.get("minContains", 1)}
        return True
