"""LiteLLM in three modes: `python litellm_python.py URL`."""

import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

MODEL = "zoo-think"
SUM = [{"role": "user", "content": "What is 37 + 85?"}]
NUMBERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
ADD = {"type": "function", "function": {"name": "add", "description": "Add two numbers", "parameters": NUMBERS}}


def run(url: str) -> Any:
    found: dict[str, Any] = {}
    modes: dict[str, dict[str, Any]] = {
        "ollama": {"model": f"ollama/{MODEL}", "api_base": url},
        "ollama_chat": {"model": f"ollama_chat/{MODEL}", "api_base": url},
        "openai": {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "x"},
        "anthropic": {"model": f"anthropic/{MODEL}", "api_base": url, "api_key": "x", "max_tokens": 200},
    }
    for name, mode in modes.items():
        answer = litellm.completion(messages=SUM, temperature=0, **mode)
        parts = litellm.completion(messages=SUM, temperature=0, stream=True, **mode)
        streamed = "".join(part.choices[0].delta.content or "" for part in parts)
        found[name] = [answer.choices[0].message.content, streamed]
    found["ollama"] = len({text[:9] for text in found["ollama"]})  # it writes the conversation as one prompt of its own
    for name in ("ollama_chat", "openai", "anthropic"):
        call = litellm.completion(messages=SUM, temperature=0, tools=[ADD], **modes[name]).choices[0].message.tool_calls[0]
        found[f"{name} tools"] = json.loads(call.function.arguments)
    found["openai embedding"] = len(litellm.embedding(input=["a", "b"], **modes["openai"]).data)
    return found


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1])))
