"""Schemas as people write them, draft-04 to 2020-12 and mixes of these, as one document of 2020-12 with local references only.

Only what can be reached is looked at. Where drafts differ, the newer meaning holds, but for what `$schema` decides: up to
draft-07 the siblings of `$ref` are ignored.
"""

import json
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from serow.constraints.drafts import modern
from serow.constraints.grammar import schema_refusal
from serow.constraints.keywords import (
    IN_PLACE,
    KEYWORDS,
    LIMITS,
    UNCHECKED_PATTERN,
    Schema,
    Shape,
    rebuild,
    step,
    subschemas,
)
from serow.constraints.patterns import is_regex
from serow.errors import FormatError

MAX_DEPTH = 48  # schemas within schemas
MAX_NODES = 4000  # schemas in all
MOST_REACHED = 100_000  # schemas that one value is checked against, each as often as it is referred to

_MOST_SHOWN = 50  # characters of a pattern in a message

_INDEX = re.compile("[0-9]{1,9}")
_LEGACY = re.compile(r"^https?://json-schema\.org/draft-0[3467]/schema#?$")
_ANCHORS = ("$anchor", "$dynamicAnchor")
_RAW_SHAPES: dict[str, Shape] = {key: keyword.shape for key, keyword in KEYWORDS.items()} | {
    "$defs": "map",
    "definitions": "map",
    "dependencies": "map",
    "additionalItems": "schema",
}


@dataclass(frozen=True)
class Document:
    """A schema and the definitions that it refers to as `#/$defs/NAME`."""

    root: Schema
    defs: dict[str, Schema]
    origins: dict[str, str] = field(default_factory=dict)  # NAME -> where the client had it

    def whole(self) -> dict[str, Any]:
        """As one JSON Schema."""
        return self.around(self.root)

    def around(self, node: Schema) -> dict[str, Any]:
        """A part of it, with the definitions it may refer to."""
        body = node if isinstance(node, dict) else {"allOf": [node]}
        return {"$defs": self.defs, **body} if self.defs else body

    def where(self, pointer: str) -> str:
        """A pointer into `whole()` as one into what the client sent, "#" for its root."""
        if pointer.startswith("/$defs/"):
            name, slash, rest = pointer.removeprefix("/$defs/").partition("/")
            pointer = self.origins[name] + slash + rest
        return f"#{pointer}"


def translate(source: dict[str, Any], deadline: float) -> Document:
    """Raises FormatError that says where, for what is no schema, refers to nowhere, or is too large."""
    return _Translator(source, deadline).document()


class _Translator:
    def __init__(self, source: dict[str, Any], deadline: float) -> None:
        self._source = source
        self._deadline = deadline  # of time.thread_time()
        self._is_legacy = bool(_LEGACY.match(str(source.get("$schema", ""))))
        self._resources: dict[str, tuple[Any, str]] = {"": (source, "")}  # base URI -> schema, pointer
        self._anchors: dict[tuple[str, str], tuple[Any, str]] = {}
        self._bases: dict[int, str] = {}  # id() of a schema -> its base URI
        self._names: dict[int, str] = {}  # id() of a referenced schema -> its name in $defs
        self._waiting: deque[tuple[str, Any, str, str]] = deque()
        self._origins: dict[str, str] = {}
        self._num_nodes = 0
        self._index(source, "", "", 0)

    def document(self) -> Document:
        root = self._schema(self._source, "", "", 0)
        defs: dict[str, Schema] = {}
        while self._waiting:
            name, raw, pointer, base = self._waiting.popleft()
            self._origins[name] = pointer
            defs[name] = self._schema(raw, pointer, base, 0)
        document = Document(root, defs, self._origins)
        _refuse_loops(document)
        _refuse_towers(document)
        return document

    def _index(self, raw: Any, pointer: str, base: str, depth: int) -> None:
        """Note every identifier and anchor, so that references find them."""
        if not isinstance(raw, dict) or depth > MAX_DEPTH:
            return
        base = self._identify(raw, pointer, base)
        self._bases[id(raw)] = base
        for at, child in _raw_children(raw, pointer):
            self._index(child, at, base, depth + 1)

    def _identify(self, raw: dict[str, Any], pointer: str, base: str) -> str:
        for key in ("$id", "id"):
            if isinstance(name := raw.get(key), str) and not (self._is_legacy and "$ref" in raw):
                url, fragment = urldefrag(name)
                if url:
                    base = urljoin(base, url)
                    self._resources.setdefault(base, (raw, pointer))
                if fragment:
                    self._anchors.setdefault((base, fragment), (raw, pointer))
        for key in _ANCHORS:
            if isinstance(name := raw.get(key), str):
                self._anchors.setdefault((base, name), (raw, pointer))
        return base

    def _schema(self, raw: Any, pointer: str, base: str, depth: int) -> Schema:
        self._num_nodes += 1
        if depth > MAX_DEPTH or self._num_nodes > MAX_NODES:
            what = f"more than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_NODES} schemas"
            raise FormatError(f"invalid format: the schema is too large: {what}")
        if isinstance(raw, bool):
            return raw
        if not isinstance(raw, dict):
            raise FormatError(f"invalid format: a schema must be an object or a boolean at #{pointer}")
        base = self._bases.get(id(raw), base)
        if self._is_legacy and isinstance(raw.get("$ref"), str):
            return {"$ref": self._reference(raw["$ref"], pointer, base)}
        node = modern(raw)
        _check(node, pointer)
        self._check_patterns(node, pointer)
        if "$ref" in node:
            node["$ref"] = self._reference(node["$ref"], pointer, base)
        return rebuild(node, lambda child, at: self._schema(child, at, base, depth + 1), pointer)

    def _check_patterns(self, node: dict[str, Any], pointer: str) -> None:
        """Every pattern must be read by the validator, or else by the grammar compiler; raises FormatError."""
        for pattern in (*([node["pattern"]] if "pattern" in node else ()), *node.get("patternProperties", ())):
            if time.thread_time() > self._deadline:
                raise FormatError("invalid format: the patterns of the schema are too complex")
            if is_regex(pattern):
                continue
            if pattern != node.get("pattern") or schema_refusal({"type": "string", "pattern": pattern}):
                shown = json.dumps(pattern[:_MOST_SHOWN])
                raise FormatError(f"invalid format: a pattern at #{pointer} is not a regular expression, or too large: {shown}")
            node[UNCHECKED_PATTERN] = node.pop("pattern")

    def _reference(self, ref: str, pointer: str, base: str) -> str:
        target, origin = self._resolve(ref, pointer, base)
        name = self._names.get(id(target))
        if name is None:
            name = self._names[id(target)] = f"d{len(self._names)}"
            self._waiting.append((name, target, origin, self._bases.get(id(target), base)))
        return f"#/$defs/{name}"

    def _resolve(self, ref: str, pointer: str, base: str) -> tuple[Any, str]:
        url, fragment = urldefrag(urljoin(base, ref) if not ref.startswith("#") else base + ref)
        if url not in self._resources:
            raise FormatError(f'invalid format: "$ref" at #{pointer} points outside the schema, and nothing is fetched')
        if (url, fragment) in self._anchors:
            return self._anchors[url, fragment]
        for start in (self._resources[url], self._resources[""]):
            found = _follow(start, unquote(fragment))
            if found is not None:
                return found
        raise FormatError(f'invalid format: "$ref" at #{pointer} points to nothing in the schema')


def _follow(start: tuple[Any, str], fragment: str) -> tuple[Any, str] | None:
    """What a JSON pointer points to, and its place from the root."""
    value, place = start
    if fragment and not fragment.startswith("/"):
        return None
    for part in fragment.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and _INDEX.fullmatch(key) and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
        place = step(place, key)
    return value, place


def _raw_children(raw: dict[str, Any], pointer: str) -> Iterator[tuple[str, Any]]:
    """Every schema below one of any draft, definitions included."""
    for key, value in raw.items():
        at, shape = step(pointer, key), _RAW_SHAPES.get(key)
        if isinstance(value, dict) and shape == "map":
            yield from ((step(at, name), item) for name, item in value.items())
        elif isinstance(value, list) and (shape == "schemas" or key == "items"):
            yield from ((step(at, index), item) for index, item in enumerate(value))
        elif isinstance(value, dict) and shape == "schema":
            yield at, value


def _check(node: dict[str, Any], pointer: str) -> None:
    for key, value in node.items():
        if not KEYWORDS[key].accepts(value):
            raise FormatError(f'invalid format: "{key}" at #{pointer} must be {KEYWORDS[key].phrase}')
        if key.startswith("min") and value > LIMITS.get(key, value):
            raise FormatError(f'invalid format: "{key}" at #{pointer} asks for more than {LIMITS[key]}')


def _refuse_loops(document: Document) -> None:
    """A schema that applies itself to the same value has no meaning, and sends validators round for ever."""
    graph = {name: set(_references_in_place(schema)) for name, schema in document.defs.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise FormatError(
            f'invalid format: "$ref" at {document.where("/$defs/" + error.args[1][0])} refers to itself'
        ) from None


def _refuse_towers(document: Document) -> None:
    """References that double from level to level: a value is checked against a schema as often as it is referred to."""
    counts: dict[str, int] = {}

    def count(schema: Schema) -> int:
        if isinstance(schema, bool):
            return 1
        return 1 + sum(count(child) for key, _, child in subschemas(schema) if key in IN_PLACE) + count_of(_target(schema))

    def count_of(name: str) -> int:
        if name and name not in counts:
            counts[name] = count(document.defs[name])
        return counts.get(name, 0)

    for name in document.defs:
        if count_of(name) > MOST_REACHED:
            place = document.where(f"/$defs/{name}")
            raise FormatError(f"invalid format: the schema at {place} would check one value more than {MOST_REACHED} times")


def _target(schema: dict[str, Any]) -> str:
    """The name that it refers to, "" when it refers to nothing."""
    return str(schema.get("$ref", "")).removeprefix("#/$defs/")


def _references_in_place(schema: Schema) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        yield _target(schema)
    for key, _, child in subschemas(schema):
        if key in IN_PLACE:
            yield from _references_in_place(child)
