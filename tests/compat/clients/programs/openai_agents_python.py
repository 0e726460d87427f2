"""OpenAI's agents SDK over responses and over chat: `python openai_agents_python.py URL`."""

import asyncio
import json
import sys
from typing import Any

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from openai.types.shared import Reasoning


@function_tool
def add(a: int, b: int) -> int:
    """Add two numbers"""
    return a + b


async def run(url: str) -> Any:
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="x")
    settings = ModelSettings(temperature=0, reasoning=Reasoning(effort="none"))
    found = {}
    for name, model in (
        ("responses", OpenAIResponsesModel("zoo-think", client)),
        ("chat", OpenAIChatCompletionsModel("zoo-think", client)),
    ):
        agent = Agent(name="sums", tools=[add], model=model, model_settings=settings)
        found[name] = (await Runner.run(agent, "What is 23 + 68?")).final_output[:9]
        streamed = Runner.run_streamed(agent, "What is 23 + 68?")
        kinds = [event.type async for event in streamed.stream_events()]
        found[f"{name} streamed"] = [streamed.final_output[:9], "run_item_stream_event" in kinds]
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1]))))
