"""Semantic Kernel with its connector for Ollama, and with OpenAI's: `python semantic_kernel_python.py URL`."""

import asyncio
import json
import sys
from typing import Any

from openai import AsyncOpenAI
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.function_choice_behavior import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.ollama import (
    OllamaChatCompletion,
    OllamaChatPromptExecutionSettings,
    OllamaTextCompletion,
    OllamaTextEmbedding,
    OllamaTextPromptExecutionSettings,
)
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
from semantic_kernel.contents import ChatHistory
from semantic_kernel.functions import KernelArguments, kernel_function

MODEL = "zoo-think"


class Maths:
    @kernel_function(description="Add two numbers")
    def add(self, a: int, b: int) -> int:
        return a + b


def history(text: str) -> ChatHistory:
    found = ChatHistory()
    found.add_user_message(text)
    return found


async def called(service: Any, settings: Any) -> bool:
    """Whether an agent calls its tool and has an answer."""
    settings.function_choice_behavior = FunctionChoiceBehavior.Auto()
    agent = ChatCompletionAgent(service=service, name="adder", plugins=[Maths()], arguments=KernelArguments(settings))
    answer = await agent.get_response(messages="What is 23 + 68?")
    return bool(str(answer))


async def run(url: str) -> Any:
    chat = OllamaChatCompletion(ai_model_id=MODEL, host=url)
    openai = OpenAIChatCompletion(ai_model_id=MODEL, async_client=AsyncOpenAI(base_url=f"{url}/v1", api_key="x"))
    settings = OllamaChatPromptExecutionSettings(options={"temperature": 0})
    openai_settings = OpenAIChatPromptExecutionSettings(temperature=0, reasoning_effort="low")
    parts = [str(part[0]) async for part in chat.get_streaming_chat_message_contents(history("What is 37 + 85?"), settings)]
    text = OllamaTextCompletion(ai_model_id=MODEL, host=url)
    text_settings = OllamaTextPromptExecutionSettings(options={"temperature": 0})
    vectors = await OllamaTextEmbedding(ai_model_id=MODEL, host=url).generate_raw_embeddings(["a", "b"])
    return {
        "chat": str(await chat.get_chat_message_content(history("What is 37 + 85?"), settings)),
        "stream": "".join(parts),
        "text": str(await text.get_text_content("What is 37 + 85?", text_settings)),
        "embeddings": len(vectors),
        "agent": await called(chat, OllamaChatPromptExecutionSettings(options={"temperature": 0})),
        "openai": str(await openai.get_chat_message_content(history("What is 37 + 85?"), openai_settings)),
        "openai agent": await called(openai, OpenAIChatPromptExecutionSettings(temperature=0, reasoning_effort="low")),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1]))))
