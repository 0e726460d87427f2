"""Open WebUI without a browser, with a server of its own in an empty folder: `python open_webui_python.py URL`."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

MODEL = "zoo-think:latest"
COMMAND = "from open_webui import app; app()"
START = 300.0  # seconds; it makes its database first
POLL = 0.5
NUMBERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
ADD = {"type": "function", "function": {"name": "add", "description": "Add two numbers", "parameters": NUMBERS}}


@contextmanager
def running(url: str) -> Iterator[httpx.Client]:
    """A client that has signed in to an Open WebUI whose models are the server's."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            "PATH": os.defpath,
            "HOME": folder,
            "DATA_DIR": folder,
            "WEBUI_SECRET_KEY": "x",
            "WEBUI_AUTH": "False",
            "OLLAMA_BASE_URL": url,
            "ENABLE_OPENAI_API": "False",
            "RAG_EMBEDDING_ENGINE": "ollama",
            "OFFLINE_MODE": "True",
            "ANONYMIZED_TELEMETRY": "False",
            "DO_NOT_TRACK": "true",
            "SCARF_NO_ANALYTICS": "true",
        }
        argv = [sys.executable, "-c", COMMAND, "serve", "--host", "127.0.0.1", "--port", str(port)]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(argv, env=environ, cwd=folder, stdout=quiet, stderr=quiet) as process:
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=100) as client:
                    sign_in(client, process)
                    yield client
            finally:
                process.kill()


def sign_in(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    """Wait until it listens."""
    deadline = time.monotonic() + START
    while True:
        try:
            answer = client.post("/api/v1/auths/signin", json={"email": "", "password": ""})
            client.headers["Authorization"] = f"Bearer {answer.json()['token']}"
            return
        except httpx.ConnectError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(POLL)


def asked(client: httpx.Client, text: str, **fields: Any) -> httpx.Response:
    """What a person asks in the browser."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": False, "temperature": 0, **fields}
    return client.post("/api/chat/completions", json=body)


def streamed(client: httpx.Client) -> str:
    lines = asked(client, "What is 37 + 85?", stream=True).text.splitlines()
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk.get("choices"))


def called(client: httpx.Client) -> Any:
    choice = asked(client, "What is 23 + 68?", tools=[ADD]).json()["choices"][0]
    return [choice["finish_reason"], json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"])]


def passed_on(client: httpx.Client, path: str, **fields: Any) -> httpx.Response:
    """A request that Open WebUI passes on to Ollama's API."""
    return client.post(f"/ollama{path}", json={"model": MODEL, "stream": False, **fields})


def run(url: str) -> Any:
    with running(url) as client:
        too_long = passed_on(client, "/api/chat", messages=[{"role": "user", "content": "x" * 100_000}])
        openai = passed_on(client, "/v1/chat/completions", messages=[{"role": "user", "content": "Hi"}])
        return {
            "models": MODEL in {each["id"] for each in client.get("/api/models").json()["data"]},
            "chat": asked(client, "What is 37 + 85?").json()["choices"][0]["message"]["content"],
            "stream": streamed(client),
            "tools": called(client),
            "version": client.get("/ollama/api/version").json()["version"],
            "ps": MODEL in {each["name"] for each in client.get("/ollama/api/ps").json()["models"]},
            "embed": len(passed_on(client, "/api/embed", input=["a", "b"]).json()["embeddings"]),
            "generate": bool(passed_on(client, "/api/generate", prompt="Hi").json()["response"]),
            "unload": client.post("/ollama/api/unload", json={"model": MODEL}).json()["status"],
            "too long": [too_long.status_code, "the context holds" in too_long.json()["detail"]],
            "openai": openai.json()["object"],
            "pull": '{"error":' in client.post("/ollama/api/pull", json={"model": "nobody"}).text,
        }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1])))
