"""The scenarios of test_clients.py with the official Python client: `run` tells what came of each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ollama import Client, GenerateResponse, ResponseError

MODEL = "zoo-think"
PROMPT = "What is 12 + 34?"
OPTIONS = {"temperature": 0, "num_predict": 150}
SUM = {"role": "user", "content": "What is 37 + 85?"}
INTEGER = {"type": "integer"}
PARAMETERS = {"type": "object", "properties": {"a": INTEGER, "b": INTEGER}, "required": ["a", "b"]}
ADD: dict[str, Any] = {
    "type": "function",
    "function": {"name": "add", "description": "Add two numbers", "parameters": PARAMETERS},
}


def sides(answer: GenerateResponse) -> dict[str, str]:
    return {"response": answer.response or "", "thinking": answer.thinking or ""}


class Scenarios:
    """One method each, as the JavaScript file has them."""

    def __init__(self, client: Client, picture: Path) -> None:
        self._client = client
        self._picture = picture

    def generate(self) -> Any:
        answer = self._client.generate(MODEL, PROMPT, options=OPTIONS)
        return {**sides(answer), "done_reason": answer.done_reason, "eval_count": answer.eval_count}

    def stream(self) -> Any:
        parts = list(self._client.generate(MODEL, PROMPT, options=OPTIONS, stream=True))
        response, thinking = ("".join(sides(part)[side] for part in parts) for side in ("response", "thinking"))
        return {"response": response, "thinking": thinking, "done": parts[-1].done, "many": len(parts) > 60}

    def think_off(self) -> Any:
        return sides(self._client.generate(MODEL, PROMPT, options=OPTIONS, think=False))

    def think_level(self) -> Any:
        return sides(self._client.generate(MODEL, PROMPT, options=OPTIONS, think="low"))

    def format(self) -> Any:
        properties = {"ok": {"enum": ["yes"]}}
        schema = {"type": "object", "properties": properties, "required": ["ok"], "additionalProperties": False}
        return json.loads(self._client.generate(MODEL, PROMPT, options=OPTIONS, format=schema).response or "")

    def context(self) -> Any:
        first = list(self._client.generate(MODEL, PROMPT, options=OPTIONS).context or ())
        second = list(self._client.generate(MODEL, "And 1 + 1?", options=OPTIONS, context=first).context or ())
        return second[: len(first)] == first != []

    def images(self) -> Any:
        images = [self._picture.read_bytes()]
        return self._client.generate("zoo-vision", "What is in this picture?", options=OPTIONS, images=images).response

    def insert(self) -> Any:
        return self._client.generate(MODEL, "def add(x, y):\n    return ", suffix="\n", options=OPTIONS).response

    def line_breaks(self) -> Any:
        format = {"choice": ["a\u2028b\u2029c\u0085d"]}
        parts = self._client.generate(MODEL, PROMPT, options=OPTIONS, format=format, think=False, stream=True)
        return "".join(part.response or "" for part in parts)

    def logprobs(self) -> Any:
        answer = self._client.generate(MODEL, PROMPT, options=OPTIONS, think=False, logprobs=True, top_logprobs=2)
        found = list(answer.logprobs or ())
        return {"text": "".join(each.token for each in found), "top": len(found[0].top_logprobs or ())}

    def chat(self) -> Any:
        answer = self._client.chat(MODEL, [{"role": "user", "content": PROMPT}], options=OPTIONS)
        message = answer.message
        return {"content": message.content, "thinking": message.thinking, "done_reason": answer.done_reason}

    def chat_stream(self) -> Any:
        parts = list(self._client.chat(MODEL, [{"role": "user", "content": PROMPT}], options=OPTIONS, stream=True))
        content = "".join(part.message.content or "" for part in parts)
        thinking = "".join(part.message.thinking or "" for part in parts)
        return {"content": content, "thinking": thinking, "done": parts[-1].done, "many": len(parts) > 60}

    def tools(self) -> Any:
        """A call, and the answer that is made of its result, given back as the client has the message."""
        first = self._client.chat(MODEL, [SUM], tools=[ADD], options=OPTIONS, think=False).message
        (call,) = first.tool_calls or ()
        name, arguments = call.function.name, dict(call.function.arguments)
        result = {"role": "tool", "tool_name": name, "content": str(sum(arguments.values()))}
        second = self._client.chat(MODEL, [SUM, first, result], tools=[ADD], options=OPTIONS, think=False).message
        return [name, arguments, first.content, second.content]

    def tools_stream(self) -> Any:
        parts = list(self._client.chat(MODEL, [SUM], tools=[ADD], options=OPTIONS, think=False, stream=True))
        calls = [call.function for part in parts for call in part.message.tool_calls or ()]
        return {
            "calls": [[call.name, dict(call.arguments)] for call in calls],
            "content": "".join(part.message.content or "" for part in parts),
            "with the end": len(parts[-1].message.tool_calls or ()),
        }

    def embed(self) -> Any:
        vectors = self._client.embed(MODEL, ["one", "two"]).embeddings
        lengths = [sum(each * each for each in vector) for vector in vectors]
        return [len(vectors), all(abs(length - 1) < 1e-3 for length in lengths), vectors[0] != vectors[1]]

    def keep_alive(self) -> Any:
        load = self._client.generate(MODEL, "", keep_alive="10m").done_reason
        loaded = self._is_loaded()
        return [load, loaded, self._client.generate(MODEL, "", keep_alive=0).done_reason, self._is_loaded()]

    def _is_loaded(self) -> bool:
        return any(each.model == "zoo-think:latest" for each in self._client.ps().models)

    def show(self) -> Any:
        shown = self._client.show(MODEL)
        assert shown.details is not None and shown.modelinfo is not None
        return [shown.capabilities, shown.details.family, shown.modelinfo["general.architecture"]]

    def create_copy_delete(self) -> Any:
        recipe: dict[str, Any] = {"from_": MODEL, "system": "Be brief.", "parameters": {"temperature": 0}}
        progress = [part.status for part in self._client.create("client-made", **recipe, stream=True)]
        self._client.copy("client-made", "client-copy")
        both = self._names()
        self._client.delete("client-made")
        self._client.delete("client-copy")
        return [progress[-1], both, self._names()]

    def _names(self) -> list[str]:
        return sorted(each.model for each in self._client.list().models if each.model and each.model.startswith("client-"))

    def errors(self) -> Any:
        client = self._client
        return [
            refused(lambda: client.generate("nobody", PROMPT)),
            refused(lambda: client.generate(MODEL, PROMPT, options={"top_k": "many"})),
            refused(lambda: list(client.generate(MODEL, PROMPT, format={"type": 5}, stream=True))),
            refused(lambda: client.generate(MODEL, PROMPT, keep_alive="30")),
            refused(lambda: client.show("nobody")),
            refused(lambda: client.delete("nobody")),
        ]


def refused(call: Callable[[], object]) -> list[int | str] | None:
    try:
        call()
    except ResponseError as error:
        return [error.status_code, error.error]
    return None


def run(host: str, picture: Path) -> dict[str, Any]:
    """The result of every scenario by its name."""
    with Client(host) as client:
        scenarios = Scenarios(client, picture)
        return {name: getattr(scenarios, name)() for name in vars(Scenarios) if not name.startswith("_")}
