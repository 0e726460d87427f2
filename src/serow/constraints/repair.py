"""What the grammar compiler still refuses, found by trying: the smallest part is given up that it can't follow.

Its messages don't say where, and what it refuses changes with its version: overlapping patternProperties, look-around,
a minProperties beside optional properties, references in circles.
"""

import time

from serow.constraints.dialect import Document
from serow.constraints.grammar import is_unsatisfiable, schema_refusal
from serow.constraints.keywords import Schema, rebuild, remade, step, subschemas
from serow.constraints.relax import Relaxed
from serow.errors import FormatError

# tried in this order; giving up `patternProperties` needs `additionalProperties` to go with it
_SUSPECTS = (
    ("pattern",), ("format",), ("minProperties",), ("maxProperties",), ("minProperties", "maxProperties"), ("multipleOf",),
    ("patternProperties", "additionalProperties"), ("minLength", "maxLength"), ("minItems", "maxItems"),
    ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), ("const",), ("enum",), ("anyOf",), ("allOf",),
)  # fmt: skip


def repair(relaxed: Relaxed, deadline: float) -> str:
    """Make the relaxed document one that compiles. Returns why not, "" when it does; raises FormatError after the deadline."""
    reason = schema_refusal(relaxed.document.whole())
    if not reason or is_unsatisfiable(reason):
        return reason
    mender = _Mender(relaxed, deadline)
    document = relaxed.document
    root = mender.mend(document.root, "")
    defs = {name: mender.mend(schema, f"/$defs/{name}") for name, schema in document.defs.items()}
    relaxed.document = Document(root, defs, document.origins)
    if reason := schema_refusal(relaxed.document.whole()):
        relaxed.document = mender.loosen_references()
        reason = schema_refusal(relaxed.document.whole())
    return reason


class _Mender:
    def __init__(self, relaxed: Relaxed, deadline: float) -> None:
        self._relaxed = relaxed
        self._deadline = deadline

    def mend(self, node: Schema, pointer: str) -> Schema:
        """The node without what can't be followed in it, references aside."""
        if isinstance(node, bool) or self._compiles(node):
            return node
        node = rebuild(node, self.mend, pointer)
        if self._compiles(node):
            return node
        for names in _SUSPECTS:
            rest = {key: value for key, value in node.items() if key not in names}
            if names[0] in node and self._compiles(rest):
                self._give_up(names[0], pointer)
                return rest
        self._give_up("the schema", pointer)
        return {"type": node["type"]} if "type" in node else True

    def loosen_references(self) -> Document:
        """References lose the keywords beside them: a circle of such can't be followed."""
        document = self._relaxed.document

        def loosen(node: Schema, pointer: str) -> Schema:
            if isinstance(node, bool):
                return node
            refs = [part["$ref"] for part in (node, *node.get("allOf", ())) if isinstance(part, dict) and "$ref" in part]
            if refs and len(node) > 1:
                self._give_up("keywords beside $ref", pointer)
                return {"$ref": refs[0]}
            return rebuild(node, loosen, pointer)

        defs = {name: loosen(schema, f"/$defs/{name}") for name, schema in document.defs.items()}
        return Document(loosen(document.root, ""), defs, document.origins)

    def _compiles(self, node: Schema) -> bool:
        if time.thread_time() > self._deadline:
            raise FormatError("invalid format: the schema is too complex to compile")
        reason = schema_refusal(_without_references(node))
        return not reason or is_unsatisfiable(reason)

    def _give_up(self, keyword: str, pointer: str) -> None:
        self._relaxed.give_up(keyword, self._relaxed.document.where(pointer))


def _without_references(node: Schema) -> Schema:
    if isinstance(node, bool):
        return node
    bare = {key: value for key, value in node.items() if key != "$ref"}
    return remade(bare, lambda child, *_: _without_references(child))


def find_unsatisfiable(node: Schema, pointer: str = "") -> str:
    """Pointer of the deepest required schema that llguidance calls unsatisfiable."""
    if isinstance(node, bool):
        return pointer
    for key, name, child in subschemas(node):
        is_needed = key in ("allOf", "items", "prefixItems") or (key == "properties" and name in node.get("required", ()))
        if is_needed and is_unsatisfiable(schema_refusal(_without_references(child))):
            return find_unsatisfiable(child, step(pointer, *(part for part in (key, name) if part is not None)))
    return pointer
