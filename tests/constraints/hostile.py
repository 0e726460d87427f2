"""Formats and answers made to hurt, by what is in them."""

from collections.abc import Callable
from typing import Any


def _nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = wrap(schema)
    return schema


def _tower(levels: int, keyword: str, root: dict[str, Any]) -> dict[str, Any]:
    """Definitions that each refer to the next one twice."""
    steps = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {**root, "$defs": {**steps, f"d{levels}": {"type": "string"}}}


def _objects(count: int, name: str) -> list[dict[str, Any]]:
    return [
        {"type": "object", "properties": {f"{name}{number}": {"type": "integer"}}, "required": [f"{name}{number}"]}
        for number in range(count)
    ]


HOSTILE: dict[str, Callable[[], Any]] = {
    "60,000 groups in a pattern": lambda: {"pattern": "(" * 60_000 + ")" * 60_000},
    "60,000 groups in a regex": lambda: {"regex": "(" * 60_000 + ")" * 60_000},
    "4,000 groups in a regex": lambda: {"regex": "(" * 4000 + ")" * 4000},
    "60,000 groups in GBNF": lambda: {"grammar": "root ::= " + "(" * 30_000 + '"a"' + ")" * 30_000},
    "20,000 groups in Lark": lambda: {"grammar": "start: " + "(" * 20_000 + '"a"' + ")" * 20_000},
    "a chain of rules": lambda: {
        "grammar": "root ::= r0\n" + "".join(f"r{n} ::= r{n + 1}\n" for n in range(900)) + 'r900 ::= "a"'
    },
    "a long regex": lambda: {"regex": "a?" * 5000},
    "a repetition without end": lambda: {"grammar": 'start: x{100000000}\nx: "a" | "b" x'},
    "left recursion": lambda: {"grammar": 'root ::= root "a" | root | ""'},
    "exponential pattern": lambda: {"type": "string", "pattern": "^(a+)+(a|a)*" * 20 + "$"},
    "exponential repetition": lambda: {"type": "string", "pattern": "(((a{1,1000}){1,1000}){1,1000}){1,1000}"},
    "exponential states": lambda: {"regex": "(a|b)*a(a|b){2000}"},
    "2,000 large patterns": lambda: {"properties": {f"{n}": {"pattern": rf"^\p{{L}}{{1,{n % 500}}}$"} for n in range(2000)}},
    "10 MB of enum": lambda: {"enum": [f"value {number:09}" for number in range(500_000)]},
    "500,000 items": lambda: {"type": "array", "items": {}, "minItems": 500_000},
    "10^30 characters": lambda: {"type": "string", "minLength": 10**30},
    "up to 10^9 items": lambda: {"type": "array", "items": {"type": "null"}, "maxItems": 10**9},
    "a huge constant": lambda: {"const": 10**400},
    "500 levels": lambda: _nested(500, lambda inner: {"properties": {"a": inner}}),
    "500 levels of const": lambda: {"const": _nested(500, lambda inner: {"a": inner})},
    "40 levels of not": lambda: _nested(40, lambda inner: {"not": {"properties": {"a": inner}, "required": ["a"]}}),
    "24 levels of oneOf": lambda: _nested(24, lambda inner: {"oneOf": [{"properties": {"a": inner}}, {"required": ["b"]}]}),
    "9,000 properties": lambda: {"properties": {f"p{number}": {"type": "string"} for number in range(9000)}},
    "3,000 properties": lambda: {"properties": {f"p{number}": {"type": "string"} for number in range(3000)}},
    "1,900 branches": lambda: {"oneOf": _objects(1900, "a")},
    "20^50 cases": lambda: {"allOf": [{"anyOf": _objects(20, f"a{number}_")} for number in range(50)]},
    "20^50 exclusive cases": lambda: {"allOf": [{"oneOf": _objects(20, f"a{number}_")} for number in range(50)]},
    "the negation of 5^10 cases": lambda: {"not": {"allOf": [{"oneOf": _objects(5, f"a{number}_")} for number in range(10)]}},
    "references all to all": lambda: {
        "$ref": "#/$defs/n0",
        "$defs": {
            f"n{one}": {"properties": {f"p{two}": {"$ref": f"#/$defs/n{two}"} for two in range(40)}, "minProperties": 3}
            for one in range(40)
        },
    },
    "a chain that doubles 40 times": lambda: _tower(40, "allOf", {"not": {"$ref": "#/$defs/d0"}, "enum": [7]}),
    "a chain of anyOf that doubles 40 times": lambda: _tower(40, "anyOf", {"$ref": "#/$defs/d0"}),
    "a chain of oneOf that doubles 40 times": lambda: _tower(40, "oneOf", {"$ref": "#/$defs/d0"}),
    "a chain of if and then that doubles": lambda: {
        "$ref": "#/$defs/d0",
        "$defs": {
            **{f"d{n}": {key: {"$ref": f"#/$defs/d{n + 1}"} for key in ("if", "then", "else")} for n in range(40)},
            "d40": {"type": "string"},
        },
    },
    "a chain of dependentSchemas that doubles": lambda: {
        "$ref": "#/$defs/d0",
        "$defs": {
            **{f"d{n}": {"dependentSchemas": {key: {"$ref": f"#/$defs/d{n + 1}"} for key in "ab"}} for n in range(40)},
            "d40": {"type": "object"},
        },
    },
    "a chain of items that doubles": lambda: {
        "$ref": "#/$defs/d0",
        "$defs": {
            **{f"d{n}": {"items": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2}} for n in range(40)},
            "d40": {"type": "string"},
        },
    },
    "a dynamic reference that doubles": lambda: {
        "$dynamicAnchor": "node",
        "type": "object",
        "properties": {"a": {"allOf": [{"$dynamicRef": "#node"}, {"$dynamicRef": "#node"}]}},
    },
    "a chain of 3,000 references": lambda: {
        "$ref": "#/$defs/d0",
        "$defs": {**{f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(3000)}, "d3000": {"type": "string"}},
    },
    "a multiple of a large number": lambda: {"type": "integer", "multipleOf": 9999991},
    "a multiple of two numbers": lambda: {"type": "integer", "allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]},
    "a multiple of many numbers": lambda: {
        "type": "number",
        "allOf": [{"multipleOf": n} for n in (0.7, 1.1, 1.3, 1.7, 1.9, 2.3, 2.9, 3.1)],
    },
    "a multiple of a fine fraction": lambda: {"type": "number", "multipleOf": 1e-300},
    "19,900 newlines before GBNF": lambda: {"grammar": "\n" * 19_900 + 'root ::= "a"'},
    "19,900 spaces before GBNF": lambda: {"grammar": " " * 19_900 + 'root ::= "a"'},
    "19,900 newlines before Lark": lambda: {"grammar": "\n" * 19_900 + 'start: "a"'},
    "19,000 dashes in GBNF": lambda: {"grammar": "-" * 19_000 + "\n::= a"},
    "a comment of 19,000 characters": lambda: {"grammar": "#" * 19_000 + '\nroot ::= "a"'},
    "10,000 alternatives": lambda: {"grammar": "root ::= " + " | ".join(['"a"'] * 3000)},
    "a wide ambiguous grammar": lambda: {"grammar": 'root ::= a a a a a a a a\na ::= "x"* | "x" a | a "x" | a a'},
    "a reference of 5,000 digits": lambda: {"$ref": f"#/prefixItems/{'1' * 5000}", "prefixItems": [{}]},
    "600 levels and half a pair": lambda: _nested(600, lambda inner: {"properties": {"\ud800": inner}}),
    "half a pair": lambda: {"type": "object", "properties": {"\ud800": {"type": "string"}}},
    "half a pair in a choice": lambda: {"choice": ["\udfff"]},
    "half a pair in a regex": lambda: {"regex": "\ud800+"},
    "600 levels of arrays": lambda: _nested(600, lambda inner: {"prefixItems": [inner]}),
    "5,000 levels of enum": lambda: {"enum": [_nested(900, lambda inner: [inner])]},
    "10^9 items at least": lambda: {"type": "array", "minItems": 10**9},
    "10^9 characters at most": lambda: {"type": "string", "maxLength": 10**9},
    "10^9 properties at least": lambda: {"type": "object", "minProperties": 10**9},
    "10^9 properties at most": lambda: {"type": "object", "maxProperties": 10**9},
    "10^9 of contains": lambda: {"type": "array", "contains": {"const": 1}, "minContains": 10**9},
    "10,000 items of 10,000 items": lambda: {
        "type": "array",
        "minItems": 10_000,
        "items": {"type": "array", "minItems": 10_000, "items": {"type": "null"}},
    },
    "a million characters": lambda: {"type": "string", "minLength": 1_000_000, "maxLength": 1_000_000},
    "items of a million characters": lambda: {
        "type": "array",
        "minItems": 9000,
        "items": {"type": "string", "minLength": 999_999},
    },
    "unique items of unique items": lambda: _nested(
        10, lambda inner: {"type": "array", "uniqueItems": True, "items": inner, "contains": inner}
    ),
    "nested quantifiers": lambda: {"type": "string", "pattern": "^((((a*)*)*)*)*b$"},
    "nested quantifiers with bounds": lambda: {"type": "string", "pattern": "^(((a{1,30}){1,30}){1,30}){1,30}$"},
    "look-around in circles": lambda: {"type": "string", "pattern": "^(?=(a+)+$)(?!(a|aa)+$)(a*)*b"},
    "back-references": lambda: {"type": "string", "pattern": r"^(a+)(b+)\1\2(\1|\2)+$"},
    "200 overlapping keys": lambda: {
        "type": "object",
        "patternProperties": {f"^.*{n}.*$": {"const": n} for n in range(200)},
        "additionalProperties": False,
    },
    "a set of 20 unlike patterns": lambda: {"allOf": [{"type": "string", "pattern": f"[a-z]*{n}[a-z]*"} for n in range(20)]},
    "the negation of many patterns": lambda: {"allOf": [{"not": {"pattern": f"(a|b)*a(a|b){{{n}}}"}} for n in range(5, 30)]},
    "a large constant": lambda: {"const": {f"key {n}": ["x" * 20] * 3 for n in range(3000)}},
    "an enum of large objects": lambda: {"enum": [{f"k{m}": m for m in range(40)} for n in range(500)]},
    "1,000 required names": lambda: {"type": "object", "required": [f"r{n}" for n in range(1000)]},
    "1,000 dependent names": lambda: {"dependentRequired": {f"a{n}": [f"b{m}" for m in range(30)] for n in range(300)}},
    "bounds of 300 digits": lambda: {"type": "integer", "minimum": -(10**300), "maximum": 10**300},
    "a number between two neighbours": lambda: {
        "type": "number",
        "exclusiveMinimum": 0.1,
        "exclusiveMaximum": 0.1000000000000001,
    },
}


def _deep(levels: int) -> tuple[Any, str]:
    """A schema that looks at each level of a value twice, and a value of so many levels."""
    steps = {f"d{n}": {"items": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2}} for n in range(levels)}
    schema = {"type": "array", "not": {"$ref": "#/$defs/d0"}, "$defs": {**steps, f"d{levels}": {"type": "string"}}}
    return schema, "[" * levels + '"a"' + "]" * levels


# a format that is taken, and a text that takes long to check
TEXTS: dict[str, Callable[[], tuple[Any, str]]] = {
    "a schema that doubles with each level": lambda: _deep(40),
    "an ambiguous grammar": lambda: ({"grammar": 'root ::= a*\na ::= "x" a? | "x"'}, "x" * 3000),
}
