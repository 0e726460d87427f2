"""LangChain through OpenAI's routes and through Ollama's: `python langchain_python.py URL`."""

import json
import sys
from typing import Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

MODEL = "zoo-think"
QUESTION = "What is 23 + 68?"


class Sum(BaseModel):
    """A sum"""

    a: int
    b: int


@tool
def add(a: int, b: int) -> int:
    """Add two numbers"""
    return a + b


def loop(model: Any) -> Any:
    bound = model.bind_tools([add])
    first = bound.invoke(QUESTION)
    (call,) = first.tool_calls
    last = bound.invoke([("user", QUESTION), first, ToolMessage("91", tool_call_id=call["id"])])
    return [call["name"], call["args"], last.content]


def run(url: str) -> Any:
    openai = ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key="x", temperature=0, reasoning_effort="none")
    responses = ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key="x", temperature=0, use_responses_api=True)
    ollama = ChatOllama(model=MODEL, base_url=url, temperature=0, reasoning=False)
    return {
        "openai": openai.invoke("What is 37 + 85?").content,
        "openai stream": "".join(part.content for part in openai.stream("What is 37 + 85?")),
        "openai tools": loop(openai),
        "openai structured": openai.with_structured_output(Sum).invoke("What is 37 + 85? Answer in JSON.").a,
        "openai responses": responses.invoke("What is 37 + 85?").text,
        "openai embeddings": len(
            OpenAIEmbeddings(model=MODEL, base_url=f"{url}/v1", api_key="x", check_embedding_ctx_length=False).embed_documents(
                ["a", "b"]
            )
        ),
        "ollama": ollama.invoke("What is 37 + 85?").content,
        "ollama tools": loop(ollama)[:2],
        "ollama embeddings": len(OllamaEmbeddings(model=MODEL, base_url=url).embed_documents(["a", "b"])),
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1])))
