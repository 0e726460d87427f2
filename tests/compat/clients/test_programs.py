"""Real programs talk to the server: SDKs and frameworks, each in the environment that `scripts/clients` made for it.

A program that is not installed is skipped. What each one must bring is here; how it asks is in its file.
"""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.compat.clients.kept import ENVIRONMENTS, before

HERE = Path(__file__).parent / "programs"
DEADLINE = 100  # seconds
SLOW = 400  # of a program that starts a server of its own

WEBUI = "open_webui_python.py"
SUM = "37 + 85 = 122."
ADDED = "23 + 68 = 91."
NUMBERS = {"a": 23, "b": 68}
THOUGHT = [True, True, SUM]

OPENAI: dict[str, Any] = {
    "chat": [SUM, "stop", 35],
    "stream": [SUM, True, 76],
    "tools": ["tool_calls", NUMBERS, ADDED],
    "streamed_tools": {"a": 37, "b": 85},
    "completions": " 122",
    "embeddings": [2, True],
    "streamed_responses": ["response.completed", NUMBERS, ADDED],
}
ANTHROPIC: dict[str, Any] = {
    "message": [SUM, "end_turn", 13],
    "stream": [SUM, "end_turn"],
    "thinking": THOUGHT,
    "tools": ["tool_use", NUMBERS, ADDED],
    "streamed_tools": {"a": 37, "b": 85},
    "count_tokens": True,
    "models": True,
}
EXPECTED: dict[str, dict[str, Any]] = {
    "openai_python.py": {
        **OPENAI,
        "parse": ["Sum", 37],
        "choices": [[0, SUM], [1, SUM]],
        "tool_choice": "add",
        "models": [True, "zoo-think"],
        "responses": [SUM, "5 + 6 = 11.", SUM],
        "errors": [
            [404, "model_not_found", "model"],
            [400, "invalid_value", "temperature"],
            [404, "model_not_found", "model"],
            [400, "previous_response_not_found", "previous_response_id"],
        ],
    },
    "openai_js.mjs": {
        **OPENAI,
        "abort": True,
        "models": "zoo-think",
        "responses": [SUM, "5 + 6 = 11."],
        "errors": [[404, "model_not_found", "model"], [400, "invalid_value", "temperature"]],
    },
    "anthropic_python.py": {
        **ANTHROPIC,
        "stop_sequence": ["37 + 85 ", "stop_sequence", "="],
        "tool_runner": "23 + 68 =",
        "parse": ["Sum", 37],
        "errors": [
            [404, "model 'nobody' not found", True],
            [400, "messages is required", True],
            [404, "model 'nobody' not found", True],
        ],
    },
    "anthropic_js.mjs": {
        **ANTHROPIC,
        "errors": [[404, "model 'nobody' not found"], [400, "messages is required"]],
    },
    "ai_sdk.mjs": {
        **{f"{name}{kind}": SUM for name in ("responses", "chat", "compatible", "anthropic") for kind in ("", " streamed")},
        **{f"{name} tools": [2, "23 + 68 ="] for name in ("responses", "chat", "compatible", "anthropic")},
        "object": ["a", "b"],
        "embedMany": 2,
        "error": [404, "model 'nobody' not found"],
    },
    "langchain_python.py": {
        **dict.fromkeys(("openai", "openai stream", "openai responses", "ollama"), SUM),
        "openai tools": ["add", NUMBERS, ADDED],
        "openai structured": 37,
        "openai embeddings": 2,
        "ollama tools": ["add", NUMBERS],
        "ollama embeddings": 2,
    },
    "litellm_python.py": {
        **{name: [SUM, SUM] for name in ("ollama_chat", "openai", "anthropic")},
        **{f"{name} tools": {"a": 37, "b": 85} for name in ("ollama_chat", "openai", "anthropic")},
        "ollama": 1,
        "openai embedding": 2,
    },
    "pydantic_ai_python.py": {"text": SUM, "tools": ["23 + 68 =", 1], "native output": "Sum"},
    "instructor_python.py": {"JSON": "Sum", "TOOLS": "Sum", "JSON_SCHEMA": "Sum"},
    "openai_agents_python.py": {
        **dict.fromkeys(("responses", "chat"), "23 + 68 ="),
        **{f"{name} streamed": ["23 + 68 =", True] for name in ("responses", "chat")},
    },
    "llama_index_python.py": {
        **dict.fromkeys(("ollama complete", "ollama chat", "ollama stream", "openai chat", "openai stream"), SUM),
        **dict.fromkeys(("ollama agent", "openai agent"), "23 + 68 ="),
        **dict.fromkeys(("ollama embeddings", "openai embeddings"), 2),
        "ollama structured": "Sum",
    },
    "haystack_python.py": {
        **dict.fromkeys(("ollama", "openai"), SUM),
        **{f"{name} agent": [4, "23 + 68 ="] for name in ("ollama", "openai")},
        "ollama stream": True,
        "ollama embeddings": [128, 2],
        "openai embeddings": 128,
    },
    "semantic_kernel_python.py": {
        **dict.fromkeys(("chat", "stream", "text", "openai"), SUM),
        **dict.fromkeys(("agent", "openai agent"), True),
        "embeddings": 2,
    },
    "ai_sdk_ollama.mjs": {
        **{f"{name}{kind}": SUM for name in ("v2", "sdk") for kind in ("", " streamed")},
        **{f"{name} tools": [2, "23 + 68 ="] for name in ("v2", "sdk")},
        **{f"{name} object": ["a", "b"] for name in ("v2", "sdk")},
        **{f"{name} embedMany": 2 for name in ("v2", "sdk")},
        "error": 404,
    },
    WEBUI: {
        "models": True,
        "chat": SUM,
        "stream": SUM,
        "tools": ["tool_calls", NUMBERS],
        "version": "0.33.0",
        "ps": True,
        "embed": 2,
        "generate": True,
        "unload": True,
        "too long": [400, True],
        "openai": "chat.completion",
        "pull": True,
    },
    "llm_python.py": {"models": True, "prompt": True, "schema": ["a", "b"]},
}


async def run(program: str, server: str) -> dict[str, Any]:
    """What a program prints; skips where it is not installed."""
    name, _, kind = program.partition(".")
    environment = ENVIRONMENTS / name.removesuffix("_python").replace("_", "-")
    if not (environment / "installed").exists() or (kind == "mjs" and shutil.which("node") is None):
        pytest.skip(f"{environment.name} is not installed: scripts/clients {environment.name}")
    runtime = ["node"] if kind == "mjs" else [str(environment / "venv" / "bin" / "python")]
    async with before(server, name) as url:
        argv = [*runtime, str(HERE / program), url, *([str(environment)] if kind == "mjs" else [])]
        deadline = SLOW if program == WEBUI else DEADLINE
        done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=deadline)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(SLOW + 20)
@pytest.mark.parametrize("program", EXPECTED)
async def test_a_program_is_served(program: str, server: str) -> None:
    assert await run(program, server) == EXPECTED[program]


def test_every_program_is_expected_to_bring_something() -> None:
    assert {path.name for path in HERE.iterdir() if path.suffix in (".py", ".mjs")} == EXPECTED.keys()
