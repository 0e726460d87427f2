"""Formats made to hurt: refused or taken within two seconds, and the process lives on."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from serow.constraints import compile_format
from serow.errors import FormatError

pytestmark = pytest.mark.req("GEN-12")

LIMIT = 2.0  # seconds


def _nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = wrap(schema)
    return schema


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
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_format_is_settled_in_two_seconds(name: str) -> None:
    format = HOSTILE[name]()
    start = time.process_time()
    try:
        constraint = compile_format(format)
    except FormatError as error:
        assert str(error).startswith("invalid format")
    else:
        assert constraint is not None
    assert time.process_time() - start < LIMIT


async def test_the_event_loop_runs_on_while_a_large_schema_is_compiled() -> None:
    schema = {"properties": {f"q{number}": {"type": "string"} for number in range(1000)}}
    compiling = asyncio.create_task(asyncio.to_thread(compile_format, schema))
    longest, last = 0.0, time.monotonic()
    while not compiling.done():
        await asyncio.sleep(0.001)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert await compiling is not None
    assert longest < LIMIT / 4
