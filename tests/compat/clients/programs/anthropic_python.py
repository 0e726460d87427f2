"""Anthropic's Python SDK: `python anthropic_python.py URL` prints what came of each scenario."""

import json
import sys
from typing import Any

import anthropic
from anthropic import beta_tool
from pydantic import BaseModel

MODEL = "zoo-think"
SUM = [{"role": "user", "content": "What is 37 + 85?"}]
NUMBERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
ADD = {"name": "add", "description": "Add two numbers", "input_schema": NUMBERS}
FREE: dict[str, Any] = {"model": MODEL, "max_tokens": 200, "extra_body": {"temperature": 0}}


class Sum(BaseModel):
    a: int
    b: int


@beta_tool
def add(a: int, b: int) -> str:
    """Add two numbers

    Args:
        a: a number
        b: a number
    """
    return str(a + b)


class Scenarios:
    def __init__(self, url: str) -> None:
        self.client: Any = anthropic.Anthropic(base_url=url, api_key="local", max_retries=0)

    def message(self) -> Any:
        answer = self.client.messages.create(messages=SUM, **FREE)
        return [answer.content[0].text, answer.stop_reason, answer.usage.output_tokens]

    def stream(self) -> Any:
        with self.client.messages.stream(messages=SUM, **FREE) as stream:
            text = "".join(stream.text_stream)
            return [text, stream.get_final_message().stop_reason]

    def thinking(self) -> Any:
        thinking = {"type": "enabled", "budget_tokens": 1024}
        with self.client.messages.stream(messages=SUM, thinking=thinking, **{**FREE, "max_tokens": 2000}) as stream:
            answer = stream.get_final_message()
        thought, said = answer.content
        return [thought.thinking.startswith("Ones: 7 + 5"), bool(thought.signature), said.text]

    def stop_sequence(self) -> Any:
        answer = self.client.messages.create(messages=SUM, stop_sequences=["="], **FREE)
        return [answer.content[0].text, answer.stop_reason, answer.stop_sequence]

    def tools(self) -> Any:
        messages: list[Any] = [{"role": "user", "content": "What is 23 + 68?"}]
        answer = self.client.messages.create(messages=messages, tools=[ADD], **FREE)
        (call,) = answer.content
        result = {"type": "tool_result", "tool_use_id": call.id, "content": str(call.input["a"] + call.input["b"])}
        messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        last = self.client.messages.create(messages=messages, tools=[ADD], **FREE)
        return [answer.stop_reason, call.input, last.content[0].text]

    def streamed_tools(self) -> Any:
        with self.client.messages.stream(messages=SUM, tools=[ADD], **FREE) as stream:
            return stream.get_final_message().content[0].input

    def tool_runner(self) -> Any:
        question = [{"role": "user", "content": "What is 23 + 68?"}]
        last = self.client.beta.messages.tool_runner(messages=question, tools=[add], **FREE).until_done()
        return last.content[0].text[:9]

    def count_tokens(self) -> Any:
        counted = self.client.messages.count_tokens(model=MODEL, messages=SUM, tools=[ADD]).input_tokens
        usage = self.client.messages.create(messages=SUM, tools=[ADD], **FREE).usage
        return counted == usage.input_tokens + usage.cache_read_input_tokens

    def parse(self) -> Any:
        question = [{"role": "user", "content": "What is 37 + 85? Answer in JSON."}]
        answer = self.client.messages.parse(messages=question, output_format=Sum, **FREE)
        return [type(answer.parsed_output).__name__, answer.parsed_output.a]

    def models(self) -> Any:
        return any(each.id == "zoo-think:latest" for each in self.client.models.list())

    def errors(self) -> Any:
        found = []
        for call in (
            lambda: self.client.messages.create(messages=SUM, **{**FREE, "model": "nobody"}),
            lambda: self.client.messages.create(messages=[], **FREE),
            lambda: list(self.client.messages.create(messages=SUM, stream=True, **{**FREE, "model": "nobody"})),
        ):
            try:
                call()
            except anthropic.APIStatusError as error:
                found.append([error.status_code, error.body["error"]["message"], bool(error.request_id)])
        return found


if __name__ == "__main__":
    scenarios = Scenarios(sys.argv[1])
    names = [name for name in vars(Scenarios) if not name.startswith("_")]
    print(json.dumps({name: getattr(scenarios, name)() for name in names}))
