"""Instructor in its JSON and tool modes: `python instructor_python.py URL`."""

import json
import sys
from typing import Any

import instructor
import openai
from pydantic import BaseModel


class Sum(BaseModel):
    a: int
    b: int


def run(url: str) -> Any:
    found = {}
    for mode in (instructor.Mode.JSON, instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        client: Any = instructor.from_openai(openai.OpenAI(base_url=f"{url}/v1", api_key="x"), mode=mode)
        question = [{"role": "user", "content": "What is 37 + 85?"}]
        answer = client.create(
            model="zoo-think", messages=question, response_model=Sum, temperature=0, max_tokens=100, reasoning_effort="none"
        )
        found[mode.name] = type(answer).__name__
    return found


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1])))
