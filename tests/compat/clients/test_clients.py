"""The official Python and JavaScript clients go through the same scenarios with the same results."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.compat.clients import scenarios
from tests.compat.clients.kept import before

HERE = Path(__file__).parent
PICTURE = HERE.parents[1] / "models" / "zoo" / "lm" / "vision_images" / "01.png"
INSTALL = ("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent")
DEADLINE = 60  # seconds

ANSWER = "12 + 34 = 46."
THOUGHT = "Ones: 2 + 4 + 0 = 6, write 6, carry 0.\nTens: 1 + 3 + 0 = 4, write 4, carry 0.\nSum: 46.\n"
SIDES = {"response": ANSWER, "thinking": THOUGHT}

EXPECTED: dict[str, Any] = {
    "generate": {**SIDES, "done_reason": "stop", "eval_count": 66},
    "stream": {**SIDES, "done": True, "many": True},
    "think_off": {"response": ANSWER, "thinking": ""},
    "think_level": SIDES,
    "format": {"ok": "yes"},
    "context": True,
    "images": "A yellow square.",
    "insert": "x + y",
    "line_breaks": "a\u2028b\u2029c\u0085d",
    "logprobs": {"text": ANSWER, "top": 2},
    "chat": {"content": ANSWER, "thinking": THOUGHT, "done_reason": "stop"},
    "chat_stream": {"content": ANSWER, "thinking": THOUGHT, "done": True, "many": True},
    "tools": ["add", {"a": 37, "b": 85}, "", "37 + 85 = 122."],
    "tools_stream": {"calls": [["add", {"a": 37, "b": 85}]], "content": "", "with the end": 0},
    "embed": [2, True, True],
    "keep_alive": ["load", True, "unload", False],
    "show": [["tools", "thinking", "completion"], "qwen3", "qwen3"],
    "create_copy_delete": ["success", ["client-copy:latest", "client-made:latest"], []],
    "errors": [
        [404, "model 'nobody' not found"],
        [400, 'option "top_k" must be of type integer'],
        [400, 'invalid format: "type" at # must be one or more of array, boolean, integer, null, number, object, string'],
        [400, 'time: missing unit in duration "30"'],
        [404, "model 'nobody:latest' not found"],
        [404, "model 'nobody' not found"],
    ],
}


def by_python(url: str) -> dict[str, Any]:
    """What the Python client says."""
    return scenarios.run(url, PICTURE)


def by_node(url: str) -> dict[str, Any]:
    """What the JavaScript client says; skips where it can't be had."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("the JavaScript client needs node and npm")
    if not (HERE / "node_modules" / "ollama").is_dir():
        installed = subprocess.run(INSTALL, cwd=HERE, capture_output=True, text=True, timeout=DEADLINE)
        if installed.returncode:
            pytest.skip(f"the JavaScript client can't be had from the package index: {installed.stderr[-200:]}")
    argv = ["node", "scenarios.mjs", url, str(PICTURE)]
    output = subprocess.run(argv, cwd=HERE, capture_output=True, check=True, timeout=DEADLINE).stdout
    results: dict[str, Any] = json.loads(output)
    return results


@pytest_asyncio.fixture(scope="module", params=["python", "javascript"])
async def results(request: pytest.FixtureRequest, server: str) -> dict[str, Any]:
    """The results of one client."""
    async with before(server, f"ollama_{request.param}") as url:
        return await asyncio.to_thread(by_python if request.param == "python" else by_node, url)


@pytest.mark.parametrize("scenario", EXPECTED)
def test_an_official_client_is_served(results: dict[str, Any], scenario: str) -> None:
    assert results[scenario] == EXPECTED[scenario]


def test_every_scenario_is_looked_at(results: dict[str, Any]) -> None:
    assert results.keys() == EXPECTED.keys()
