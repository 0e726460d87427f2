"""The `llm` command with its plugin for Ollama: `python llm_python.py URL`."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("llm"))


def ask(url: str, *arguments: str) -> str:
    with tempfile.TemporaryDirectory() as home:
        environ = {**os.environ, "OLLAMA_HOST": url, "LLM_USER_PATH": home}
        done = subprocess.run([COMMAND, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()


def run(url: str) -> dict[str, object]:
    schema = json.loads(
        ask(url, "-m", "ollama/zoo-think", "--schema", "a int, b int", "-o", "temperature", "0", "What is 37 + 85?")
    )
    return {
        "models": "zoo-think" in ask(url, "models"),
        "prompt": ask(url, "-m", "ollama/zoo-think", "-o", "temperature", "0", "What is 37 + 85?").endswith("37 + 85 = 122."),
        "schema": sorted(schema),
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1])))
