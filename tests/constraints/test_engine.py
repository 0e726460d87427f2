"""The real engine holds what was compiled: its llguidance is of another build than ours, and fails in silence."""

import asyncio
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from serow.constraints import Constraint
from serow.engines.base import CompletionRequest
from serow.engines.llamacpp.runner import LlamaRunner
from serow.options import Options
from tests.constraints.sampling import compiled, fits
from tests.engines.llamacpp.engines import chat, chunks_of

pytestmark = pytest.mark.req("GEN-12")

SEEDS = (1, 2, 3)


async def sample(engine: LlamaRunner, constraint: Constraint, seed: int, num_predict: int = 300) -> tuple[str, str]:
    """A hot text under a constraint, and why it ended."""
    options = Options(temperature=1.0, seed=seed, top_k=0, top_p=1.0)
    prompt = await chat(engine, "What is 37 + 85?")
    chunks = await chunks_of(engine, CompletionRequest(prompt, options, num_predict, grammar=constraint.grammar))
    assert chunks[-1].usage is not None
    return "".join(chunk.text for chunk in chunks), chunks[-1].usage.done_reason


WORD = {"type": "string", "maxLength": 5}

HELD: dict[str, dict[str, Any]] = {
    "type": {"type": ["boolean", "null"]},
    "const": {"const": {"a": [1, "x"]}},
    "enum": {"enum": ["red", "green", 7, None]},
    "minimum": {"type": "integer", "minimum": 10, "maximum": 99},
    "exclusiveMinimum": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "multipleOf": 0.25},
    "multipleOf": {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 1000},
    "maxLength": {"type": "string", "minLength": 2, "maxLength": 6},
    "pattern": {"type": "string", "pattern": "^[a-f]{2}-[0-9]{1,3}$"},
    "format": {"type": "string", "format": "date"},
    "items": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    "prefixItems": {"type": "array", "prefixItems": [{"const": 1}, {"type": "null"}], "items": False, "minItems": 1},
    "properties": {"type": "object", "properties": {"b": {"type": "boolean"}, "a": WORD}, "required": ["a"],
                   "additionalProperties": False},
    "additionalProperties": {"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 2,
                             "propertyNames": {"pattern": "^[a-c]{1,3}$"}},
    "patternProperties": {"type": "object", "patternProperties": {"^[xy]$": {"type": "null"}}, "additionalProperties": False,
                          "minProperties": 1, "maxProperties": 3},
    "allOf": {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 20}]},
    "anyOf": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"const": "none"}]},
    "oneOf": {"oneOf": [{"type": "integer", "minimum": 0, "maximum": 5}, {"type": "integer", "minimum": 3, "maximum": 9}]},
    "not": {"type": "integer", "minimum": 0, "maximum": 9, "not": {"enum": [3, 4]}},
    "if": {"type": "object", "properties": {"k": {"enum": ["a", "b"]}, "n": {"type": "null"}}, "required": ["k"],
           "additionalProperties": False, "if": {"properties": {"k": {"const": "a"}}}, "then": {"required": ["n"]}},
    "dependentRequired": {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}},
                          "additionalProperties": False, "dependentRequired": {"a": ["b"]}},
    "$ref": {"$defs": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "type": "array", "items": {"$ref": "#/$defs/n"},
             "minItems": 1, "maxItems": 3},
}  # fmt: skip


@pytest.mark.parametrize("keyword", HELD)
async def test_the_engine_holds_the_keyword(engine: LlamaRunner, keyword: str) -> None:
    constraint = compiled(HELD[keyword])
    assert constraint.warnings == ()
    texts = await asyncio.gather(*(sample(engine, constraint, seed) for seed in SEEDS))
    assert [text for text, _ in texts if not fits(HELD[keyword], text)] == []
    assert {done_reason for _, done_reason in texts} == {"stop"}


@pytest.mark.parametrize(
    "format",
    [
        {"regex": "[0-9]{3}-[a-z]{2}"},
        {"choice": ["certainly", "never", "on tuesdays"]},
        {"grammar": 'root ::= "<<" [a-c]{2,5} ">>"'},
        {"grammar": 'start: greeting "/" NUMBER\ngreeting: "hello" | "hi"\nNUMBER: /[0-9]{1,4}/'},
        {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 1, "maxItems": 1},
    ],
)
async def test_the_engine_holds_formats_beside_json(engine: LlamaRunner, format: dict[str, Any]) -> None:
    constraint = compiled(format)
    texts = await asyncio.gather(*(sample(engine, constraint, seed) for seed in SEEDS))
    assert [text for text, _ in texts if not constraint.validate(text)] == []


async def test_without_a_constraint_the_same_prompt_gives_no_json(engine: LlamaRunner) -> None:
    free = await chunks_of(
        engine, CompletionRequest(await chat(engine, "What is 37 + 85?"), Options(temperature=1.0, seed=1), 40)
    )
    assert not compiled("json").validate("".join(chunk.text for chunk in free))


async def test_json_is_an_object_or_the_beginning_of_one(engine: LlamaRunner) -> None:
    constraint = compiled("json")
    texts = await asyncio.gather(*(sample(engine, constraint, seed, 60) for seed in SEEDS))
    assert all(text.startswith("{") for text, _ in texts)
    assert all(constraint.validate(text) for text, done_reason in texts if done_reason == "stop")


async def test_a_greedy_answer_is_as_recorded(engine: LlamaRunner) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}, "sum": {"type": "integer"}},
        "required": ["a", "b", "sum"],
        "additionalProperties": False,
    }
    messages = [{"role": "system", "content": "Answer in JSON."}, {"role": "user", "content": "What is 37 + 85?"}]
    text = await engine.apply_template(messages, {"enable_thinking": False})
    prompt = await engine.tokenize(text, add_special=True)
    request = CompletionRequest(prompt, Options(temperature=0.0, seed=1), 100, grammar=compiled(schema).grammar)
    chunks = await chunks_of(engine, request)
    assert "".join(chunk.text for chunk in chunks) == '{"a": 37, "b": 85, "sum": 104}'


def test_the_engine_reads_patterns_with_the_library_that_checks_them() -> None:
    """llguidance does not say its version in a program; the library under it does."""
    found = [_derivatives(name) for name in ("llguidance", "xllamacpp")]
    assert found[0] and found[0] == found[1]


def _derivatives(package: str) -> set[bytes]:
    """Versions of derivre in the native part of a package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    programs = [path for path in Path(spec.origin).parent.iterdir() if path.suffix in (".so", ".pyd", ".dylib")]
    return {found for path in programs for found in re.findall(rb"derivre-\d+\.\d+\.\d+", path.read_bytes())}
