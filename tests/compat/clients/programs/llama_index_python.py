"""LlamaIndex through Ollama's routes and through OpenAI's: `python llama_index_python.py URL`."""

import asyncio
import json
import sys
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.ollama import Ollama
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

MODEL = "zoo-think"
SUM = "What is 37 + 85?"


class Sum(BaseModel):
    """A sum"""

    a: int
    b: int


def add(a: int, b: int) -> int:
    """Add two numbers"""
    return a + b


async def called(llm: Any) -> Any:
    """The answer of an agent, whether it called, and what its tool gave."""
    return str(await FunctionAgent(tools=[add], llm=llm, streaming=False).run("What is 23 + 68?"))[:9]


async def run(url: str) -> Any:
    ollama = Ollama(model=MODEL, base_url=url, temperature=0, thinking=False, request_timeout=60)
    common: Any = {"model": MODEL, "api_base": f"{url}/v1", "api_key": "x"}
    openai = OpenAILike(
        **common,
        temperature=0,
        is_chat_model=True,
        is_function_calling_model=True,
        additional_kwargs={"reasoning_effort": "none"},
    )
    vectors = OllamaEmbedding(model_name=MODEL, base_url=url)
    openai_vectors = OpenAILikeEmbedding(model_name=MODEL, api_base=f"{url}/v1", api_key="x")
    messages = [ChatMessage(role="user", content=SUM)]
    return {
        "ollama complete": ollama.complete(SUM).text,
        "ollama chat": ollama.chat(messages).message.content,
        "ollama stream": [part.message.content for part in ollama.stream_chat(messages)][-1],
        "ollama structured": type(ollama.as_structured_llm(Sum).chat(messages).raw).__name__,
        "ollama agent": await called(ollama),
        "ollama embeddings": len(vectors.get_text_embedding_batch(["a", "b"])),
        "openai chat": openai.chat(messages).message.content,
        "openai stream": "".join(part.delta or "" for part in openai.stream_chat(messages)),
        "openai agent": await called(openai),
        "openai embeddings": len(openai_vectors.get_text_embedding_batch(["a", "b"])),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1]))))
