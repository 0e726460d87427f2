"""What jsonschema-rs proves of a schema: that nothing can satisfy it and why, or that two schemas have no value in common."""

from typing import Any

from serow.constraints.dialect import Document
from serow.constraints.keywords import Schema
from serow.errors import FormatError


def refuse_unsatisfiable(document: Document) -> None:
    """Raises FormatError that says where, when it is proven that no value fits the schema."""
    from jsonschema_rs import Draft202012, canonical, canonicalize

    whole = document.whole()
    options: dict[str, Any] = {"offline": True, "draft": Draft202012, "validate_formats": True}
    reasons = canonical.find_unsatisfiable(whole, **options)
    if "" in reasons:
        pointer, keywords = _culprit(reasons)
        what = " and ".join(f'"{keyword}"' for keyword in keywords) or "the schema"
        raise FormatError(f"invalid format: nothing can satisfy {what} at {document.where(pointer)}")
    if canonicalize(whole, **options).satisfiability() == canonical.Satisfiability.NO:
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
    return not {"properties", "items", "prefixItems", "$ref", "allOf", "anyOf", "oneOf"} & set(keywords)


def _causes(reason: Any) -> list[Any]:
    if hasattr(reason, "causes"):
        return list(reason.causes)
    return [reason.cause] if hasattr(reason, "cause") else []


def are_disjoint(document: Document, branches: list[Schema]) -> bool:
    """Whether it is proven that no value fits two of the branches."""
    from jsonschema_rs import Draft202012, canonical, canonicalize

    forms = [
        canonicalize(document.around(branch), offline=True, draft=Draft202012, validate_formats=True) for branch in branches
    ]
    return all(
        first.intersect(second).satisfiability() == canonical.Satisfiability.NO
        for index, first in enumerate(forms)
        for second in forms[index + 1 :]
    )


def rewrite(document: Document, node: dict[str, Any]) -> Schema:
    """The same schema in other words, often without the keywords that a grammar can't follow."""
    from jsonschema_rs import Draft202012, canonicalize

    form = canonicalize(document.around(node), offline=True, draft=Draft202012, validate_formats=True)
    result: Any = form.to_json_schema()
    if isinstance(result, dict):
        return {key: value for key, value in result.items() if key not in ("$schema", "$defs")}
    return bool(result)
