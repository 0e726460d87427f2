"""Pydantic AI: `python pydantic_ai_python.py URL`."""

import json
import sys
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.ollama import OllamaProvider


class Sum(BaseModel):
    a: int
    b: int


def run(url: str) -> Any:
    model = OpenAIChatModel("zoo-think", provider=OllamaProvider(base_url=f"{url}/v1"))
    settings: Any = {"temperature": 0, "openai_reasoning_effort": "none"}
    agent = Agent(model, model_settings=settings)

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        """Add two numbers"""
        return a + b

    plain = Agent(model, model_settings=settings).run_sync("What is 37 + 85?")
    called = agent.run_sync("What is 23 + 68?")
    native: Any = Agent(model, model_settings=settings, output_type=NativeOutput(Sum))
    return {
        "text": plain.output,
        "tools": [called.output[:9], called.usage.tool_calls],
        "native output": type(native.run_sync("What is 37 + 85? Answer in JSON.").output).__name__,
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1])))
