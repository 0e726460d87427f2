"""What jsonschema-rs proves of a schema: that nothing can satisfy it and why, or that two schemas have no value in common."""

import math
from itertools import combinations
from typing import Any

from serow.constraints.dialect import Document
from serow.constraints.keywords import Schema, subschemas
from serow.errors import FormatError

MOST_WORK = 20_000  # pairs of cases to compare


def refuse_unsatisfiable(document: Document) -> None:
    """Raises FormatError that says where, when it is proven that no value fits the schema."""
    from jsonschema_rs import Draft202012, canonical, canonicalize

    if not is_cheap(document, document.root, *document.defs.values()):
        return
    whole = document.whole()
    options: dict[str, Any] = {"offline": True, "draft": Draft202012, "validate_formats": True}
    try:
        reasons = canonical.find_unsatisfiable(whole, **options)
        is_empty = canonicalize(whole, **options).satisfiability() == canonical.Satisfiability.NO
    except canonical.CanonicalizationError:
        return  # not proven
    if "" in reasons:
        pointer, keywords = _culprit(reasons)
        what = " and ".join(f'"{keyword}"' for keyword in keywords) or "the schema"
        raise FormatError(f"invalid format: nothing can satisfy {what} at {document.where(pointer)}")
    if is_empty:
        raise FormatError("invalid format: nothing finite can satisfy the schema at #: a required part contains itself")


def _culprit(reasons: dict[str, Any]) -> tuple[str, list[str]]:
    """The deepest place that makes the root fail, and the keywords at fault there."""
    pointer = ""
    while True:
        causes = _causes(reasons[pointer])
        deeper = [place for place in reasons if place.startswith(f"{pointer}/") and _causes(reasons[place])]
        if not deeper or any(cause.pointer == pointer and _says_enough(cause.keywords) for cause in causes):
            break
        pointer = min(deeper, key=len)
    keywords = [keyword for cause in causes for keyword in cause.keywords]
    return pointer, [keyword for keyword in keywords if keyword != "type"] or keywords


def _says_enough(keywords: list[str]) -> bool:
    """Whether a conflict is between these keywords, not in the schemas under them."""
    rest = set(keywords) - {"type"}
    return bool(rest) and not rest & {"properties", "items", "prefixItems", "$ref", "allOf", "anyOf", "oneOf"}


def _causes(reason: Any) -> list[Any]:
    if hasattr(reason, "causes"):
        return list(reason.causes)
    return [reason.cause] if hasattr(reason, "cause") else []


def is_cheap(document: Document, *nodes: Schema) -> bool:
    """Whether proofs about the nodes take milliseconds: they go through all combinations of alternatives."""
    sizes: dict[str, int] = {}
    return sum(_work(document, node, sizes) for node in nodes) <= MOST_WORK


def _work(document: Document, node: Schema, sizes: dict[str, int]) -> int:
    if isinstance(node, bool):
        return 0
    return _cases(document, node, sizes) ** 2 + sum(_work(document, child, sizes) for _, _, child in subschemas(node))


def _cases(document: Document, node: Schema, sizes: dict[str, int]) -> int:
    """In how many ways a value may fit, each alternative with each of every other, counted up to MOST_WORK."""
    if isinstance(node, bool):
        return 1
    total = _cases_of(document, node["$ref"].removeprefix("#/$defs/"), sizes) if "$ref" in node else 1
    for key, value in node.items():
        if key in ("anyOf", "oneOf"):
            total *= sum(_cases(document, child, sizes) for child in value)
        elif key == "allOf":
            total *= math.prod(_cases(document, child, sizes) for child in value)
        elif key == "dependentSchemas":
            total *= math.prod(1 + _cases(document, child, sizes) for child in value.values())
        elif key == "dependentRequired":
            total *= 2 ** min(len(value), 20)
        elif key in ("not", "if", "then", "else"):
            total *= 1 + _cases(document, value, sizes)
        total = min(total, MOST_WORK)
    return total


def _cases_of(document: Document, name: str, sizes: dict[str, int]) -> int:
    if name not in sizes:
        sizes[name] = _cases(document, document.defs[name], sizes)
    return sizes[name]


def are_disjoint(document: Document, branches: list[Schema]) -> bool:
    """Whether it is proven that no value fits two of the branches."""
    from jsonschema_rs import Draft202012, canonical, canonicalize

    options: dict[str, Any] = {"offline": True, "draft": Draft202012, "validate_formats": True}
    try:
        forms = [canonicalize(document.around(branch), **options) for branch in branches]
        return all(
            first.intersect(second).satisfiability() == canonical.Satisfiability.NO for first, second in combinations(forms, 2)
        )
    except canonical.CanonicalizationError:
        return False
