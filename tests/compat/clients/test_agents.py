"""Agents of the command line at work: the program is real, what the model says is written here, what it asks for is done.

Each starts in an empty home and an empty folder, without the environment of whoever runs the tests.
"""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serow.engines.base import CompletionRequest
from serow.settings import Settings
from tests.compat.clients.kept import ENVIRONMENTS, before
from tests.output.families import speaking
from tests.support.engine import Piece, Script, text_of
from tests.support.server import running

DEADLINE = 100.0  # seconds
NUM_CTX = 200_000
MODEL = "zoo-think:latest"
DONE = "All is done."
OPENING, CLOSING, RESULT = "<tool_call>", "</tool_call>", "<tool_response>"


@dataclass(frozen=True)
class Agent:
    """A program: its file in its environment, its arguments before the task, how it is pointed here, and what makes a file."""

    path: str
    arguments: tuple[str, ...]
    environ: Callable[[str], dict[str, str]]
    makes: Callable[[Path], Script]

    async def run(self, url: str, place: Path, task: str) -> str:
        """What it prints when it is given a task; skips where it is not installed."""
        program = ENVIRONMENTS / self.path
        if not program.exists():
            pytest.skip(f"{self.path.partition('/')[0]} is not installed: scripts/clients {self.path.partition('/')[0]}")
        environ = {"PATH": os.defpath, "HOME": str(place / "home"), "TERM": "dumb", **self.environ(url)}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            program,
            *self.arguments,
            task,
            cwd=place / "work",
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
        )
        try:
            async with asyncio.timeout(DEADLINE):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return (out + err).decode()


def calling(tool: str, **arguments: Any) -> Script:
    """The model calls a tool, and says that it is done when the result is there."""

    def say(request: CompletionRequest) -> Sequence[Piece]:
        prompt = text_of(request.prompt)
        if request.grammar:
            return ["\n" + json.dumps({"name": tool, "arguments": arguments})]
        if prompt.endswith("}"):
            return ["\n" + CLOSING]
        return DONE.partition(" ") if RESULT in prompt else ["I do it.\n", OPENING]

    return say


def saying(*pieces: str) -> Script:
    return lambda _: pieces


AGENTS = {
    "claude-code": Agent(
        "claude-code/node_modules/@anthropic-ai/claude-code-linux-x64/claude",
        ("--model", MODEL, "--allowedTools=Write", "-p"),
        lambda url: {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_AUTH_TOKEN": "x",
            "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(NUM_CTX),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
        lambda work: calling("Write", file_path=str(work / "made.txt"), content="made\n"),
    ),
    "codex": Agent(
        "codex/node_modules/.bin/codex",
        ("exec", "--oss", "--local-provider", "ollama", "-m", MODEL, "--skip-git-repo-check", "-s", "danger-full-access"),
        lambda url: {"CODEX_OSS_BASE_URL": f"{url}/v1", "PATH": f"{Path(shutil.which('node') or 'node').parent}:{os.defpath}"},
        lambda work: calling("exec_command", cmd="echo made > made.txt"),
    ),
    "aider": Agent(
        "aider/venv/bin/aider",
        (
            *("--model", f"ollama_chat/{MODEL}", "--yes-always", "--no-git", "--no-check-update", "--analytics-disable"),
            *("--no-show-model-warnings", "--edit-format", "whole", "--no-stream", "made.txt", "--message"),
        ),
        lambda url: {"OLLAMA_API_BASE": url, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        lambda _: saying(DONE, "\n\nmade.txt\n```\nmade\n```\n"),
    ),
}


@asynccontextmanager
async def server(models: Path, script: Script, program: str = "", num_ctx: int = NUM_CTX) -> AsyncIterator[str]:
    """The address for an agent whose model says what is written."""
    engine = speaking(script)
    engine.num_ctx = num_ctx
    async with running(Settings(models=models, offline=True), lambda _: engine) as started, before(started.url, program) as url:
        yield url


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.timeout(DEADLINE + 20)
@pytest.mark.parametrize("name", AGENTS)
async def test_an_agent_makes_a_file(models: Path, place: Path, name: str) -> None:
    agent = AGENTS[name]
    async with server(models, agent.makes(place / "work"), name) as url:
        printed = await agent.run(url, place, "Make the file made.txt.")
    assert DONE in printed, printed
    assert (place / "work" / "made.txt").read_text() == "made\n"


@pytest.mark.req("OAI-07", "ANT-05", "RESP-06")
@pytest.mark.timeout(DEADLINE + 20)
@pytest.mark.parametrize(
    ("name", "words"),
    [("claude-code", "Prompt is too long"), ("codex", "ran out of room in the model's context window")],
)
async def test_an_agent_is_told_that_its_prompt_is_too_long(models: Path, place: Path, name: str, words: str) -> None:
    agent = AGENTS[name]
    async with server(models, saying(DONE), num_ctx=200) as url:
        assert words in await agent.run(url, place, "Make the file made.txt.")
