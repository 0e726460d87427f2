"""The relaxed schema as texts are sampled by it: what people mean, and what lets a text end, beyond what the schema says.

Numbers have at most 18 digits before the point and 10 behind it, since a small model writes digits for ever. An object with
`properties` and without `additionalProperties` is closed, as in the peer. Patterns are spelled so that the grammar compiler
holds them behind characters that JSON escapes. Each value that fits the result fits what it is made of, but for that spelling.
"""

from collections.abc import Container, Iterator
from typing import Any

from serow.constraints.dialect import Document
from serow.constraints.keywords import Schema, remade
from serow.constraints.patterns import spelled_for_json

LARGEST = 10**18  # numbers below it have 18 digits
FRACTION = 1e-10  # the finest that the grammar compiler counts digits to
ANY = "any"  # the definition of any value whose numbers end
_NUMBER = {"type": "number", "exclusiveMinimum": -LARGEST, "exclusiveMaximum": LARGEST, "multipleOf": FRACTION}
_INTEGER = {"type": "integer", "exclusiveMinimum": -LARGEST, "exclusiveMaximum": LARGEST}
# numbers without bounds of their own refer to these: each range by itself takes the grammar compiler half a millisecond
_SHARED = {"number": _NUMBER, "integer": _INTEGER}

_BOUNDS = (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
_LEAST_STEPS = 100  # multiples of FRACTION that must fit between two bounds


def tighten(document: Document, given_up: Container[str] = ()) -> Document:
    """The document to sample by. It refers to `ANY` beside its own definitions. What was given up still has to be possible."""
    return _Tightener(document, given_up).document()


class _Tightener:
    def __init__(self, document: Document, given_up: Container[str]) -> None:
        self._document = document
        self._given_up = given_up
        self._parts: dict[str, Schema] = {}  # definitions as parts of other schemas, by their new names
        self._names: dict[str, dict[str, None]] = {}  # properties that a definition names in place

    def document(self) -> Document:
        root = self._whole(self._document.root)
        defs = {name: self._whole(schema) for name, schema in self._document.defs.items()}
        return Document(root, {**defs, **self._parts, **_SHARED, ANY: _any()}, self._document.origins)

    def _whole(self, node: Schema) -> Schema:
        """A schema that alone says what a value is."""
        if node is False:
            return False
        if node is True or not node:
            return _refer(ANY)
        if node.keys() == {"type"} and "minimum" not in self._given_up and _types(node) & _SHARED.keys():
            return _of_types(_types(node))
        if node.keys() == {"$ref"}:
            return node
        if node.keys() == {"anyOf"}:
            return {"anyOf": [self._whole(branch) for branch in node["anyOf"]]}
        if node.keys() == {"allOf"} and len(node["allOf"]) == 1:
            return self._whole(node["allOf"][0])
        if "anyOf" in node and self._names_in({"anyOf": node["anyOf"]}):
            rest = {key: value for key, value in node.items() if key != "anyOf"}
            return {"anyOf": [self._together(rest, branch) for branch in node["anyOf"]]}
        return self._finished(self._part(node), node)

    def _together(self, node: dict[str, Any], branch: Schema) -> Schema:
        """A node and one of its alternatives as one schema."""
        if isinstance(branch, bool):
            return self._whole(node) if branch else False
        return self._whole({**node, "allOf": [*node.get("allOf", ()), branch]})

    def _part(self, node: Schema, *_: object) -> Any:
        """A schema that is one of several about the same value."""
        if isinstance(node, bool):
            return node
        out = {key: value for key, value in node.items() if key in ("allOf", "anyOf")}
        out = remade(out, self._part)
        rest = {key: value for key, value in node.items() if key not in out}
        out = {**remade(rest, lambda child, *_: self._whole(child)), **out}
        if "$ref" in node:
            out["$ref"] = self._part_of(node["$ref"].removeprefix("#/$defs/"))
        return _with_spelled_patterns(out)

    def _part_of(self, name: str) -> str:
        part = f"{name}p"
        if part not in self._parts:
            self._parts[part] = True  # references in circles come here again
            self._parts[part] = self._part(self._document.defs[name])
        return f"#/$defs/{part}"

    def _finished(self, out: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
        """A schema of several parts, closed and with numbers that end."""
        self._close(out, node)
        is_alone = not node.keys() & {"$ref", "allOf", "anyOf", "enum", "const"}
        kinds = _types(node)
        if "minimum" not in self._given_up and kinds & {"number", "integer"} and not node.keys() & {"$ref", "enum", "const"}:
            _end_numbers(out, kinds, [node, *self._parts_of(node)])
        if is_alone and "array" in kinds:
            out.setdefault("items", _refer(ANY))
        if is_alone and "object" in kinds and "patternProperties" not in out:
            out.setdefault("additionalProperties", _refer(ANY))
        return out

    def _close(self, out: dict[str, Any], node: dict[str, Any]) -> None:
        parts = [node, *self._parts_of(node)]
        said = [part["additionalProperties"] for part in parts if "additionalProperties" in part]
        has_patterns = any("patternProperties" in part for part in parts[1:])
        if "minProperties" in self._given_up or not any("properties" in part for part in parts):
            return
        if has_patterns or any(each is not False for each in said):
            return
        names = self._names_in(node)
        if "additionalProperties" in node or max(part.get("minProperties", 0) for part in parts) > len(names):
            return
        own = out.get("properties", {})
        out["properties"] = {**own, **{name: _refer(ANY) for name in names if name not in own}}
        out["additionalProperties"] = False

    def _parts_of(self, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Every schema about the same value as this one, once each."""
        waiting, seen = [*_in_place(node)], set[str]()
        while waiting:
            part = waiting.pop()
            if isinstance(part, bool):
                continue
            yield part
            if (name := _reference(part)) and name not in seen:
                seen.add(name)
                waiting.append(self._document.defs[name])
            waiting += _in_place(part)
        if (name := _reference(node)) and name not in seen and isinstance(target := self._document.defs[name], dict):
            yield target
            yield from self._parts_of(target)

    def _names_in(self, node: Schema) -> dict[str, None]:
        """Properties that are named in place, in order."""
        if isinstance(node, bool):
            return {}
        names = dict.fromkeys(node.get("properties", ()))
        for part in _in_place(node):
            names |= self._names_in(part)
        if name := _reference(node):
            if name not in self._names:
                self._names[name] = {}
                self._names[name] = self._names_in(self._document.defs[name])
            names |= self._names[name]
        return names | dict.fromkeys(node.get("required", ()))


def _in_place(node: dict[str, Any]) -> list[Schema]:
    return [*node.get("allOf", ()), *node.get("anyOf", ())]


def _reference(node: dict[str, Any]) -> str:
    return str(node.get("$ref", "")).removeprefix("#/$defs/")


def _types(node: dict[str, Any]) -> set[str]:
    """The types that a schema speaks of: all of them where it names none."""
    named = node.get("type", ["number", "array", "object", "string", "boolean", "null"])
    return {named} if isinstance(named, str) else set(named)


def _end_numbers(out: dict[str, Any], kinds: set[str], parts: list[dict[str, Any]]) -> None:
    """Bounds where there are none, and a last digit behind the point."""
    lows, highs = ([part[key] for part in parts for key in pair if key in part] for pair in _BOUNDS)
    low, high = max(lows, default=-LARGEST), min(highs, default=LARGEST)
    if not lows and high > -LARGEST:
        out["exclusiveMinimum"] = low
    if not highs and low < LARGEST:
        out["exclusiveMaximum"] = high
    is_integer = "number" not in kinds or any("multipleOf" in part for part in parts)
    if not is_integer and high - low > _LEAST_STEPS * FRACTION:
        out["multipleOf"] = FRACTION


def _with_spelled_patterns(node: dict[str, Any]) -> dict[str, Any]:
    """Two spellings of a pattern hold together what one would not."""
    if "pattern" in node:
        first, *others = spelled_for_json(node["pattern"])
        node["pattern"] = first
        if others:
            node["allOf"] = [*node.get("allOf", ()), *({"pattern": other} for other in others)]
    if "patternProperties" in node:
        node["patternProperties"] = {spelled_for_json(key)[0]: child for key, child in node["patternProperties"].items()}
    return node


def _any() -> dict[str, Any]:
    """Any JSON value whose numbers end."""
    values = [{"type": "object", "additionalProperties": _refer(ANY)}, {"type": "array", "items": _refer(ANY)}]
    return {"anyOf": [*values, {"type": "string"}, _refer("number"), {"type": ["boolean", "null"]}]}


def _of_types(names: set[str]) -> dict[str, Any]:
    """Values of types, numbers among them, and no more said of them."""
    others = names - _SHARED.keys()
    number = _refer("number" if "number" in names else "integer")
    if not others:
        return number
    return {"anyOf": [number, *(_value_of(name) for name in sorted(others))]}


def _value_of(name: str) -> dict[str, Any]:
    inner = {"object": {"additionalProperties": _refer(ANY)}, "array": {"items": _refer(ANY)}}
    return {"type": name, **inner.get(name, {})}


def _refer(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}
