"""The server as a client sees it: JSON in, records out."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import httpx
import psutil

DEADLINE = 60.0  # seconds
POLL = 0.03
GREEDY = {"temperature": 0, "num_predict": 150}
ENDLESS = {"num_predict": -1, "logit_bias": {"2": -1e9}, "temperature": 1.0, "seed": 1}  # zoo-think can't say that it is done

Record = dict[str, Any]


class Wire:
    """POST /api/generate in short: greedy and bounded unless the options say otherwise."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=DEADLINE)

    def post(self, body: Record | bytes, path: str = "/api/generate", **headers: str) -> httpx.Response:
        """Any answer to any body."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(path, content=content, headers=headers)

    def generate(self, model: str, prompt: str = "", options: Record | None = None, **fields: Any) -> Record:
        """The one record of an answer that is not streamed."""
        answer = self.post(self.body(model, prompt, options, stream=False, **fields))
        assert answer.status_code == 200, answer.text
        record: Record = answer.json()
        return record

    def stream(self, model: str, prompt: str = "", options: Record | None = None, **fields: Any) -> list[Record]:
        """The records of a streamed answer."""
        with self.streaming(model, prompt, options, **fields) as records:
            return list(records)

    @contextmanager
    def streaming(
        self, model: str, prompt: str = "", options: Record | None = None, **fields: Any
    ) -> Iterator[Iterator[Record]]:
        """Records as they arrive; leaving the context leaves the server."""
        body = self.body(model, prompt, options, **fields)
        with self.client.stream("POST", "/api/generate", json=body) as answer:
            assert answer.status_code == 200, answer.read()
            yield (json.loads(line) for line in answer.iter_lines())

    def refusal(self, model: str, prompt: str = "", options: Record | None = None, **fields: Any) -> tuple[int, str]:
        """Status and error of a request that is refused."""
        answer = self.post(self.body(model, prompt, options, **fields))
        assert answer.status_code != 200, answer.text
        return answer.status_code, answer.json()["error"]

    def rendered(self, model: str, prompt: str = "", **fields: Any) -> str:
        """The prompt as it goes to the model."""
        text: str = self.generate(model, prompt, _debug_render_only=True, **fields)["_debug_info"]["rendered_template"]
        return text

    def loaded(self) -> dict[str, Record]:
        """The models in memory, by name."""
        models = self.client.get("/api/ps").json()["models"]
        return {model["name"].removesuffix(":latest"): model for model in models}

    def seconds_left(self, model: str) -> float:
        """How long a model that is in memory will stay there."""
        expires_at = datetime.fromisoformat(self.loaded()[model]["expires_at"])
        return (expires_at - datetime.now(expires_at.tzinfo)).total_seconds()

    def unload(self, model: str) -> None:
        """Take a model out of memory."""
        assert self.post({"model": model, "keep_alive": 0}).json()["done_reason"] == "unload"

    @contextmanager
    def made(self, name: str, source: str = "zoo-think", **recipe: Any) -> Iterator[str]:
        """A model from another one, for a while."""
        assert self.post({"model": name, "from": source, "stream": False, **recipe}, "/api/create").status_code == 200
        try:
            yield name
        finally:
            self.client.request("DELETE", "/api/delete", json={"model": name}).raise_for_status()

    @staticmethod
    def body(model: str, prompt: str, options: Record | None, **fields: Any) -> Record:
        """The request, without fields that are None."""
        body = {"model": model, "prompt": prompt, "options": {**GREEDY, **(options or {})}, **fields}
        return {name: value for name, value in body.items() if value is not None}


def text_of(records: Sequence[Record], field: str = "response") -> str:
    """The pieces of a stream, joined."""
    return "".join(record.get(field, "") for record in records)


def engines() -> list[int]:
    """Process ids of the engines of every server that the tests run."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "serow.engines.llamacpp.worker" in child.cmdline():
                found.append(child.pid)
    return found


def together(*calls: Callable[[], Any]) -> list[Any]:
    """What calls return that are made at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(DEADLINE) for future in [pool.submit(call) for call in calls]]


def until(holds: Callable[[], object], deadline: float = 10.0) -> None:
    """Look again and again until it is so."""
    end = time.monotonic() + deadline
    while not holds():
        assert time.monotonic() < end, "not so within the deadline"
        time.sleep(POLL)
