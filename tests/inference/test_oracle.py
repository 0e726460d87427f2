"""The same greedy text, read by the wheel's own chat route and by ours: both find the same calls.

The wheel makes a parser of each chat template it knows; ours is found by a probe of the template. Its route is no part of the
product (it loses text that does not parse, and log-probabilities): it is a witness here.
"""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from serow.constraints import Constraints
from serow.engines.llamacpp.runner import LlamaRunner
from serow.inference.ask import Tool, ToolChoice
from serow.inference.calling import Calling
from serow.inference.completion import Completion
from serow.inference.plan import Plan
from serow.inference.timeline import Timeline
from serow.options import Options
from serow.output.probe import find_format
from serow.prompt.probing import probe
from serow.prompt.templates import Rendering
from serow.settings import Settings
from serow.workers.pool import Pool
from tests.conftest import pulled
from tests.engines.llamacpp.engines import load_request
from tests.output.families import Folded

MODELS = ("zoo-think", "smollm2:135m", "qwen2.5-coder:0.5b")
NUMBERS = {"a": {"type": "integer"}, "b": {"type": "integer"}}
QUESTIONS = (
    "What is 37 + 85?",
    "What is 12 + 30?",
    "What is 1 + 2?",
    "What is 99 + 1?",
    "Use the tool: add 2 and 3.",
    "Call add with a 5 and b 6, then call add with a 7 and b 8.",
)


def tool(name: str, properties: dict[str, Any]) -> Tool:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    function = {"name": name, "description": "Add two numbers", "parameters": parameters}
    return Tool(name, parameters, {"type": "function", "function": function})


TOOLS = (tool("add", NUMBERS), tool("now", {}))


@pytest_asyncio.fixture(scope="module", params=MODELS)
async def runner(request: pytest.FixtureRequest, zoo: Path) -> AsyncIterator[LlamaRunner]:
    """Each model in the wheel."""
    if ":0.5b" in request.param and not os.environ.get("SEROW_TEST_LARGE"):
        pytest.skip("needs a large model: set SEROW_TEST_LARGE=1")
    weights = zoo / "zoo-think.gguf" if request.param == "zoo-think" else pulled(request.param)
    found = LlamaRunner(load_request(weights, num_ctx=2048), Settings())
    await found.load()
    yield found
    await found.close()


@pytest_asyncio.fixture(scope="module")
async def constraints() -> AsyncIterator[Constraints]:
    """Grammars made as the server makes them."""
    pool = Pool(2)
    yield Constraints(pool)
    await pool.aclose()


def messages_of(question: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}]


async def theirs(runner: LlamaRunner, question: str) -> tuple[str, list[tuple[str, Any]]]:
    """Content and calls as the wheel reads them."""
    body = {
        "messages": messages_of(question),
        "tools": [tool.definition for tool in TOOLS],
        "parallel_tool_calls": True,
        "chat_template_kwargs": {"enable_thinking": False},
        "temperature": 0,
        "max_tokens": 80,
    }
    async with runner._child.session.post("/v1/chat/completions", json=body) as response:
        answer = await response.json()
    if response.status != 200:
        pytest.skip(f"the wheel does not read this text: {answer}")
    message = answer["choices"][0]["message"]
    calls = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in message.get("tool_calls") or ()]
    return message.get("content") or "", calls


async def ours(runner: LlamaRunner, constraints: Constraints, question: str) -> Folded:
    """The same by our runs and our parser."""
    text = await runner.apply_template(messages_of(question), {"enable_thinking": False}, [tool.definition for tool in TOOLS])
    format = await find_format(probe("", Rendering(), runner))
    plan = Plan(
        prompt=await runner.tokenize(text, add_special=True),
        options=Options(temperature=0.0),
        num_predict=80,
        calling=Calling(format, TOOLS, ToolChoice(), constraints) if format else None,
    )
    completion = Completion(runner, plan, Timeline())
    return Folded([event async for event in completion.events()], completion.warnings)


@pytest.mark.large
@pytest.mark.req("TOOL-03", "TOOL-07")
@pytest.mark.parametrize("question", QUESTIONS)
async def test_the_wheel_finds_the_same_calls(runner: LlamaRunner, constraints: Constraints, question: str) -> None:
    content, calls = await theirs(runner, question)
    found = await ours(runner, constraints, question)
    assert [(name, json.loads(arguments)) for name, arguments in found.calls] == calls
    assert found.text.strip() == content.strip()
