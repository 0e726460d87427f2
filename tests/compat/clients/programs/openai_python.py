"""OpenAI's Python SDK: `python openai_python.py URL` prints what came of each scenario."""

import json
import sys
from typing import Any

import openai
from pydantic import BaseModel

MODEL = "zoo-think"
SUM = [{"role": "user", "content": "What is 37 + 85?"}]
FREE = {"temperature": 0, "reasoning_effort": "none"}
NUMBERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
ADD = {"type": "function", "function": {"name": "add", "description": "Add two numbers", "parameters": NUMBERS}}
FLAT = {"type": "function", "name": "add", "description": "Add two numbers", "parameters": NUMBERS, "strict": True}


class Sum(BaseModel):
    a: int
    b: int


class Scenarios:
    def __init__(self, url: str) -> None:
        self.client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="local", max_retries=0)

    def chat(self) -> Any:
        answer = self.client.chat.completions.create(model=MODEL, messages=SUM, **FREE)
        return [answer.choices[0].message.content, answer.choices[0].finish_reason, answer.usage.total_tokens]

    def stream(self) -> Any:
        options = {"include_usage": True}
        chunks = list(
            self.client.chat.completions.create(model=MODEL, messages=SUM, temperature=0, stream=True, stream_options=options)
        )
        deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
        said = "".join(delta.content or "" for delta in deltas)
        thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
        return [said, thought.startswith("Ones: 7 + 5"), chunks[-1].usage.completion_tokens]

    def parse(self) -> Any:
        question = [{"role": "user", "content": "What is 37 + 85? Answer in JSON."}]
        answer = self.client.chat.completions.parse(model=MODEL, messages=question, response_format=Sum, **FREE)
        parsed = answer.choices[0].message.parsed
        return [type(parsed).__name__, parsed.a]

    def choices(self) -> Any:
        answer = self.client.chat.completions.create(model=MODEL, messages=SUM, n=2, **FREE)
        return [[each.index, each.message.content] for each in answer.choices]

    def tools(self) -> Any:
        messages: list[Any] = [{"role": "user", "content": "What is 23 + 68?"}]
        answer = self.client.chat.completions.create(model=MODEL, messages=messages, tools=[ADD], **FREE)
        message = answer.choices[0].message
        (call,) = message.tool_calls
        numbers = json.loads(call.function.arguments)
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": str(numbers["a"] + numbers["b"])}]
        last = self.client.chat.completions.create(model=MODEL, messages=messages, tools=[ADD], **FREE)
        return [answer.choices[0].finish_reason, numbers, last.choices[0].message.content]

    def streamed_tools(self) -> Any:
        with self.client.chat.completions.stream(model=MODEL, messages=SUM, tools=[ADD], **FREE) as stream:
            (call,) = stream.get_final_completion().choices[0].message.tool_calls
        return json.loads(call.function.arguments)

    def tool_choice(self) -> Any:
        hello = [{"role": "user", "content": "Hello"}]
        answer = self.client.chat.completions.create(
            model=MODEL, messages=hello, tools=[ADD], tool_choice="required", max_tokens=60, **FREE
        )
        return answer.choices[0].message.tool_calls[0].function.name

    def completions(self) -> Any:
        answer = self.client.completions.create(model=MODEL, prompt="37 + 85 =", max_tokens=4, temperature=0)
        return answer.choices[0].text

    def embeddings(self) -> Any:
        packed = self.client.embeddings.create(model=MODEL, input=["a", "b"]).data
        plain = self.client.embeddings.create(model=MODEL, input=["a", "b"], encoding_format="float").data
        pairs = [pair for a, b in zip(packed, plain, strict=True) for pair in zip(a.embedding, b.embedding, strict=True)]
        return [len(packed), all(abs(x - y) < 1e-6 for x, y in pairs)]

    def models(self) -> Any:
        return [any(each.id == "zoo-think:latest" for each in self.client.models.list()), self.client.models.retrieve(MODEL).id]

    def responses(self) -> Any:
        options = {"model": MODEL, "temperature": 0, "reasoning": {"effort": "none"}}
        answer = self.client.responses.create(input="What is 37 + 85?", **options)
        after = self.client.responses.create(input="And 5 + 6?", previous_response_id=answer.id, **options)
        kept = self.client.responses.retrieve(answer.id).output_text
        self.client.responses.delete(answer.id)
        return [answer.output_text, after.output_text, kept]

    def streamed_responses(self) -> Any:
        items: list[Any] = [{"role": "user", "content": "What is 23 + 68?"}]
        options = {"model": MODEL, "tools": [FLAT], "temperature": 0, "reasoning": {"effort": "none"}}
        *_, last = self.client.responses.create(input=items, stream=True, **options)
        (call,) = last.response.output
        numbers = json.loads(call.arguments)
        items += [call, {"type": "function_call_output", "call_id": call.call_id, "output": str(sum(numbers.values()))}]
        *_, last = self.client.responses.create(input=items, stream=True, **options)
        return [last.type, numbers, last.response.output_text]

    def errors(self) -> Any:
        found = []
        for call in (
            lambda: self.client.chat.completions.create(model="nobody", messages=SUM),
            lambda: self.client.chat.completions.create(model=MODEL, messages=SUM, temperature=5),
            lambda: list(self.client.chat.completions.create(model="nobody", messages=SUM, stream=True)),
            lambda: self.client.responses.create(model=MODEL, input="x", previous_response_id="resp_nope"),
        ):
            try:
                call()
            except openai.APIStatusError as error:
                found.append([error.status_code, error.code, error.param])
        return found


if __name__ == "__main__":
    scenarios = Scenarios(sys.argv[1])
    names = [name for name in vars(Scenarios) if not name.startswith("_")]
    print(json.dumps({name: getattr(scenarios, name)() for name in names}))
