"""An engine on another machine that computes nothing: it speaks vLLM's HTTP and says what a test has written for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

MODEL = "tiny"
SPECIAL = {"<|start|>": 256, "<|end|>": 257, "<think>": 258, "</think>": 259}
TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message.role }}\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
_LETTERS = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]


def tokenizer() -> dict[str, Any]:
    """A tokenizer.json of one token a byte, as GPT-2 writes bytes, and some special tokens; ids are the bytes."""
    others = iter(range(256, 512))
    alphabet = {chr(byte) if byte in _LETTERS else chr(next(others)): byte for byte in range(256)}
    added = [
        {"id": number, "content": text, "special": "think" not in text, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for text, number in SPECIAL.items()
    ]  # fmt: skip
    steps = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": steps,
        "decoder": steps,
        "model": {"type": "BPE", "vocab": alphabet, "merges": []},
    }


def write_folder(folder: Path, **settings: Any) -> Path:
    """What a repository has of a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    config = {"eos_token": "<|end|>", "chat_template": TEMPLATE, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 4096}))
    return folder


def ids(text: str) -> list[int]:
    """The tokens of a text, special ones by their names."""
    for name, number in SPECIAL.items():
        before, found, after = text.partition(name)
        if found:
            return [*ids(before), number, *ids(after)]
    return list(text.encode())


class FakeVllm:
    """Answers each completion with the pieces of `script`, one event each; an Event among them has to happen before it goes on.

    `requests` and `keys` are what it was asked, and with which key; `num_open` how many answers it works on.
    """

    def __init__(self) -> None:
        self.script: Sequence[str | asyncio.Event] = ("Hel", "lo")
        self.finish: dict[str, Any] = {"finish_reason": "stop", "stop_reason": None}
        self.model = MODEL
        self.max_model_len: int | None = 256
        self.shift = 0  # of every id, for a tokenizer that is another
        self.answer: web.Response | None = None  # in place of what it would say
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.num_open = 0
        self.url = ""

    @property
    def host(self) -> str:
        """For a model's `remote_host`."""
        return self.url.replace("http", "vllm")

    @property
    def application(self) -> web.Application:
        """What it answers to."""
        app = web.Application(client_max_size=1 << 26)
        app.add_routes([
            web.get("/health", self.health),
            web.get("/version", self.version),
            web.get("/metrics", self.metrics),
            web.get("/v1/models", self.models),
            web.post("/tokenize", self.tokenize),
            web.post("/v1/completions", self.completions),
            web.post("/v1/embeddings", self.embeddings),
        ])  # fmt: skip
        return app

    async def health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.32.0"})

    async def metrics(self, request: web.Request) -> web.Response:
        lines = (f'vllm:num_requests_{what}{{engine="0",model_name="{MODEL}"}} {count}.0\n' for what, count in self._gauges())
        return web.Response(text="# TYPE vllm:num_requests_running gauge\n" + "".join(lines))

    def _gauges(self) -> list[tuple[str, int]]:
        return [("running", self.num_open), ("waiting", 2)]

    async def models(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("Authorization", ""))
        return web.json_response({"data": [{"id": self.model, "max_model_len": self.max_model_len}]})

    async def tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response({"tokens": [each + self.shift for each in ids(body["prompt"])]})

    async def embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        data = [{"index": n, "embedding": [float(len(each)), 1.0]} for n, each in enumerate(body["input"])]
        return web.json_response({"data": data[::-1]})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        if self.answer is not None:
            return self.answer
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.num_open += 1
        try:
            await self._say(response, self.requests[-1])
        finally:
            self.num_open -= 1
        return response

    async def _say(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        num_tokens = 0
        for piece in self.script:
            if isinstance(piece, asyncio.Event):
                await piece.wait()
                continue
            tokens = ids(piece)
            num_tokens += len(tokens)
            choice: dict[str, Any] = {"index": 0, "text": piece, "token_ids": tokens, "finish_reason": None}
            if "logprobs" in body:
                names = [f"token_id:{token}" for token in tokens]
                tops = [{name: -0.5, "token_id:255": -1.5} for name in names]
                choice["logprobs"] = {"tokens": names, "token_logprobs": [-0.5] * len(names), "top_logprobs": tops}
            await _send(response, {"choices": [choice]})
        await _send(response, {"choices": [{"index": 0, "text": "", "token_ids": [], **self.finish}]})
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": num_tokens}
        await _send(response, {"choices": [], "usage": {**usage, "prompt_tokens_details": {"cached_tokens": 3}}})
        await response.write(b"data: [DONE]\n\n")


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")


@asynccontextmanager
async def fake_vllm() -> AsyncIterator[FakeVllm]:
    """One on a free port."""
    engine = FakeVllm()
    runner = web.AppRunner(engine.application, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    engine.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield engine
    finally:
        await runner.cleanup()
