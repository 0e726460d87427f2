"""What is left of a schema for engines with llama.cpp's own converter only."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from serow.constraints.portable import portable_pattern
from serow.engines.base import CompletionRequest
from serow.engines.llamacpp.runner import LlamaRunner
from serow.options import Options
from serow.settings import Settings
from tests.constraints.sampling import compiled
from tests.engines.llamacpp.engines import EXECUTABLES, chat, chunks_of, engine_of, load_request

pytestmark = pytest.mark.req("GEN-12")

PATTERNS = [
    ("^a$", "^a$"),
    (r"^\d{3}-[\w.-]+$", "^[0-9]{3}-[A-Za-z0-9_.-]+$"),
    (r"^(?:a|b)\/c$", "^(a|b)/c$"),
    (r"^[a\]\-]$", r"^[a\x5d\x2d]$"),
    (r"^\.$", r"^\.$"),
    ("a", None),
    ("^a", None),
    (r"^a\$", None),
    ("^(?!x)a$", None),
    (r"^\S$", None),
    ("^(a$|b)$", None),
    ("^a{5000}$", None),
]


@pytest.mark.parametrize(("pattern", "kept"), PATTERNS)
def test_a_pattern_is_said_in_the_converters_language_or_left_out(pattern: str, kept: str | None) -> None:
    assert portable_pattern(pattern) == kept


SCHEMAS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "string", "pattern": "a", "maxLength": 5000}, {"type": "string"}),
    ({"anyOf": [False, {"type": "null"}]}, {"anyOf": [{"type": "null"}]}),
    (
        {"type": "array", "prefixItems": [{"type": "null"}], "items": False},
        {"type": "array", "prefixItems": [{"type": "null"}]},
    ),
    ({"properties": {"a": False}, "additionalProperties": False}, {"properties": {}, "additionalProperties": False}),
    ({"const": None}, {"const": None}),
]


@pytest.mark.parametrize(("schema", "left"), SCHEMAS)
def test_what_the_converter_refuses_is_left_out(schema: dict[str, Any], left: dict[str, Any]) -> None:
    assert compiled(schema).schema == left


@pytest_asyncio.fixture(scope="session", params=EXECUTABLES)
async def native(request: pytest.FixtureRequest, zoo: Path) -> AsyncIterator[LlamaRunner]:
    """zoo-think on each engine that has no llguidance and is there."""
    runner = LlamaRunner(load_request(zoo / "zoo-think.gguf", engine=engine_of(request.param)), Settings())
    await runner.load()
    yield runner
    await runner.close()


@pytest.mark.native
@pytest.mark.parametrize(
    "format",
    [
        {"type": "string", "pattern": r"^[a-c]{2}-\d\/x$"},
        {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False},
        {"choice": ["certainly", "never"]},
        {"grammar": 'root ::= "<<" [a-c]{2,5} ">>"'},
    ],
)
async def test_a_native_engine_holds_what_is_left(native: LlamaRunner, format: dict[str, Any]) -> None:
    constraint = compiled(format)
    prompt = await chat(native, "What is 37 + 85?")
    request = CompletionRequest(
        prompt,
        Options(temperature=1.0, seed=1),
        200,
        grammar=constraint.grammar,
        gbnf=constraint.gbnf,
        json_schema=constraint.schema,
    )
    chunks = await chunks_of(native, request)
    assert constraint.validate("".join(chunk.text for chunk in chunks))
