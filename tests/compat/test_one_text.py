"""One text, whatever a client speaks: a real model, one seed, every dialect, whole and streamed."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.wire import Wire
from tests.wire.streams import data_of

MODEL = "smollm2:135m"
SYSTEM, ASKED = "You tell tales.", "Tell me of the sea."
OPTIONS: dict[str, Any] = {"seed": 42, "temperature": 0.9, "top_k": 50, "top_p": 0.95, "deterministic": True}
LENGTH = 24
SAID = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": ASKED}]
OWN = {"options": {**OPTIONS, "num_predict": LENGTH}}

BODIES: dict[str, dict[str, Any]] = {
    "/api/generate": {"prompt": ASKED, "system": SYSTEM, **OWN},
    "/api/chat": {"messages": SAID, **OWN},
    "/v1/chat/completions": {"messages": SAID, "max_tokens": LENGTH, **OPTIONS},
    "/v1/responses": {"instructions": SYSTEM, "input": ASKED, "max_output_tokens": LENGTH, **OPTIONS},
    "/v1/messages": {"system": SYSTEM, "messages": SAID[1:], "max_tokens": LENGTH, **OPTIONS},
}
WHOLE: dict[str, Callable[[Any], str]] = {
    "/api/generate": lambda body: body["response"],
    "/api/chat": lambda body: body["message"]["content"],
    "/v1/chat/completions": lambda body: body["choices"][0]["message"]["content"],
    "/v1/responses": lambda body: body["output"][0]["content"][0]["text"],
    "/v1/messages": lambda body: body["content"][0]["text"],
}
PIECES: dict[str, Callable[[Any], str]] = {
    "/api/generate": lambda record: record["response"],
    "/api/chat": lambda record: record["message"]["content"],
    "/v1/chat/completions": lambda chunk: chunk["choices"][0]["delta"].get("content", "") if chunk != "[DONE]" else "",
    "/v1/responses": lambda event: event["delta"] if event["type"] == "response.output_text.delta" else "",
    "/v1/messages": lambda event: event["delta"]["text"] if event["type"] == "content_block_delta" else "",
}


def text_of(wire: Wire, path: str, *, stream: bool) -> str:
    """What the model says by one dialect."""
    answer = wire.post({"model": MODEL, "stream": stream, **BODIES[path]}, path)
    assert answer.status_code == 200, answer.text
    if not stream:
        return WHOLE[path](answer.json())
    records = [json.loads(line) for line in answer.iter_lines()] if path.startswith("/api/") else data_of(answer.content)
    return "".join(map(PIECES[path], records))


@pytest.mark.req("GEN-06", "OAI-06", "RESP-03", "ANT-05")
def test_the_same_seed_gives_the_same_text_by_every_dialect(wire: Wire) -> None:
    texts = {(path, stream): text_of(wire, path, stream=stream) for path in BODIES for stream in (False, True)}
    assert len(set(texts.values())) == 1, texts
    assert len(texts["/api/chat", False].split()) > 8
