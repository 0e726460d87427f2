"""Haystack through Ollama's routes and through OpenAI's: `python haystack_python.py URL`."""

import json
import os
import sys
from typing import Any

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
from haystack import Document
from haystack.components.agents import Agent
from haystack.components.embedders import OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import tool
from haystack.utils import Secret
from haystack_integrations.components.embedders.ollama import OllamaDocumentEmbedder, OllamaTextEmbedder
from haystack_integrations.components.generators.ollama import OllamaChatGenerator

MODEL = "zoo-think"


@tool
def add(a: int, b: int) -> int:
    """Add two numbers"""
    return a + b


def said(generator: Any) -> Any:
    return generator.run([ChatMessage.from_user("What is 37 + 85?")])["replies"][0].text


def called(generator: Any) -> Any:
    """The answer of an agent, and how many messages it took."""
    messages = Agent(chat_generator=generator, tools=[add]).run([ChatMessage.from_user("What is 23 + 68?")])["messages"]
    return [len(messages), messages[-1].text[:9]]


def run(url: str) -> Any:
    ollama = OllamaChatGenerator(model=MODEL, url=url, generation_kwargs={"temperature": 0})
    pieces: list[str] = []
    streaming = OllamaChatGenerator(
        model=MODEL, url=url, generation_kwargs={"temperature": 0}, streaming_callback=lambda part: pieces.append(part.content)
    )
    common: Any = {"model": MODEL, "api_base_url": f"{url}/v1", "api_key": Secret.from_token("x")}
    openai = OpenAIChatGenerator(**common, generation_kwargs={"temperature": 0, "reasoning_effort": "none"})
    documents = [Document(content="a"), Document(content="b")]
    return {
        "ollama": said(ollama),
        "ollama stream": said(streaming) == "".join(pieces),
        "ollama agent": called(ollama),
        "ollama embeddings": [
            len(OllamaTextEmbedder(model=MODEL, url=url).run("a")["embedding"]),
            len(OllamaDocumentEmbedder(model=MODEL, url=url).run(documents)["documents"]),
        ],
        "openai": said(openai),
        "openai agent": called(openai),
        "openai embeddings": len(OpenAITextEmbedder(**common).run("a")["embedding"]),
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1])))
