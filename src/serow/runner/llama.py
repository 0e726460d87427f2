"""A language model in a llama.cpp server of its own: the TextRunner."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Struct

from serow.errors import EngineDied, EngineError
from serow.runner.base import Chunk, CompletionRequest, LoadRequest
from serow.runner.llama_errors import explain_load, refusal
from serow.runner.llama_events import ChunkBuilder, Fault, read_events
from serow.runner.llama_params import describe
from serow.runner.llama_request import completion_body
from serow.runner.process import ChildProcess
from serow.settings import Settings

T = TypeVar("T")


class _Settings(Struct):
    n_ctx: int


class _Props(Struct):
    default_generation_settings: _Settings
    media_marker: str = ""


class _Tokens(Struct):
    tokens: list[int]


class _Content(Struct):
    content: str


class _Prompt(Struct):
    prompt: str


class _Failure(Struct):
    error: Fault


class LlamaRunner:
    """llama.cpp from the wheel, or the `llama-server` executable that the settings name."""

    def __init__(self, request: LoadRequest, settings: Settings) -> None:
        self._child = ChildProcess(
            "serow.runner.llama_launcher" if settings.llama_server else "serow.runner.llama_worker",
            describe(request, settings.llama_server),
            load_timeout=settings.load_timeout,
            explain=explain_load,
        )
        self._props: _Props | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it can take requests."""
        return self._child.is_alive

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    @property
    def size(self) -> int:
        """Bytes of memory that the engine holds."""
        return self._child.size

    @property
    def num_ctx(self) -> int:
        """Tokens that each slot really has: the engine rounds up to 256 and holds to the trained length."""
        return self._loaded.default_generation_settings.n_ctx

    @property
    def media_marker(self) -> str:
        """The text that stands for a picture in a prompt; another one for every load."""
        return self._loaded.media_marker

    @property
    def _loaded(self) -> _Props:
        if self._props is None:
            raise self._child.died()
        return self._props

    async def load(self) -> None:
        """Start the engine and wait until the model is in memory; raises LoadError."""
        await self._child.start()
        self._props = await self._call("GET", "/props", None, _Props)

    async def close(self) -> None:
        """End the engine; returns when its process is gone."""
        await self._child.close()

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """Token ids of a text; special tokens written out in it count as such."""
        body = {"content": text, "add_special": add_special, "parse_special": True}
        return (await self._call("POST", "/tokenize", body, _Tokens)).tokens

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids, special tokens written out."""
        return (await self._call("POST", "/detokenize", {"tokens": tokens}, _Content)).content

    async def apply_template(self, messages: Sequence[dict[str, Any]], template_kwargs: dict[str, Any]) -> str:
        """Render messages with the model's own chat template, in the child."""
        body = {"messages": messages, "chat_template_kwargs": template_kwargs}
        return (await self._call("POST", "/apply-template", body, _Prompt)).prompt

    async def complete(self, request: CompletionRequest) -> AsyncIterator[Chunk]:
        """Yield a chunk for each event as it arrives, the last with `usage`. Closing the iterator stops the engine's work.

        Raises RequestError before the first chunk for what is the request's fault; EngineDied, EngineError at any time.
        """
        builder = ChunkBuilder(top_logprobs=request.top_logprobs, num_ctx=self.num_ctx)
        async with self._ask("POST", "/completion", completion_body(request, self.num_ctx)) as response:
            async for event in read_events(response.content.iter_any()):
                if event.error is not None:
                    raise refusal(event.error)
                if event.stop:
                    held = builder.held if event.stop_type == "limit" else []
                    yield builder.finish(event, await self.detokenize(held) if held else "")
                    return
                yield builder.step(event)
        raise EngineDied("the engine ended in the middle of its answer")

    async def _call(self, method: str, path: str, body: Any, kind: type[T]) -> T:
        async with self._ask(method, path, body) as response:
            return msgspec.json.decode(await response.read(), type=kind)

    @asynccontextmanager
    async def _ask(self, method: str, path: str, body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; what goes wrong with it, and while its answer is read, becomes an error of ours."""
        if not self.is_alive:
            raise self._child.died()
        data = None if body is None else msgspec.json.encode(body)
        try:
            async with self._child.session.request(method, path, data=data) as response:
                if response.status != 200:
                    raise refusal(await _fault(response))
                yield response
        except TimeoutError:
            raise EngineError("the engine does not answer") from None
        except aiohttp.ClientError:
            raise self._child.died() from None
        except msgspec.DecodeError:
            raise EngineError("the engine sent something that is not an answer") from None


async def _fault(response: aiohttp.ClientResponse) -> Fault:
    try:
        return msgspec.json.decode(await response.read(), type=_Failure).error
    except msgspec.DecodeError:
        return Fault(code=response.status)
