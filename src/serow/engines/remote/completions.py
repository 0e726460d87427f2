"""A language model behind POST /v1/completions, wherever its engine is: the TextRunner of vLLM and its like (REM-02).

Prompts are rendered, tokenized and cut here. Who inherits says how the engine is reached.
"""

import asyncio
import importlib.util
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Struct

from serow.engines.base import Chunk, CompletionRequest
from serow.engines.llamacpp.report import LoadReport
from serow.engines.remote.events import LONGEST_EVENT, ChunkBuilder, Event, EventReader, Fault
from serow.engines.remote.health import told
from serow.engines.remote.request import completion_body
from serow.engines.remote.tokenizer import render
from serow.engines.remote.vocabulary import Vocabulary
from serow.errors import (
    EngineBusy,
    EngineError,
    EngineUnreachable,
    Incapable,
    LimitExceeded,
    LoadError,
    RequestError,
    SerowError,
    TemplateError,
)
from serow.store.model import Model
from serow.workers.pool import Limits, Pool

T = TypeVar("T")
PACKAGES = ("tokenizers", "jinja2")  # of the extra `remote`
ANSWER = 10.0  # seconds for a small question
_LOOK = 2.0  # seconds that it may take to tell of itself
_END = 0.5  # seconds that an answer may take to end when all is said
_MOST = 16 << 20  # bytes of an answer that is no stream
_MOST_PATTERNS = 64
_LONGEST_WORDS = 300
_RENDER = Limits(cpu=5.0, memory=256 << 20)
_PROBE = "Hello, wörld! 1234  \n\t東京 🙂 <tag> don't"  # tokenizers that are not the same part here


class _Model(Struct):
    id: str = ""
    max_model_len: int | None = None


class _Models(Struct):
    data: list[_Model] = []


class _Tokens(Struct):
    tokens: list[int] = []


class _Vector(Struct):
    index: int = 0
    embedding: list[float] = []


class _Vectors(Struct):
    data: list[_Vector] = []


class _Failure(Struct):
    error: Fault | None = None
    message: str = ""  # where older versions have it


class CompletionsRunner(ABC):
    """A model in an engine that speaks OpenAI's HTTP."""

    media_marker = ""
    num_draft = 0
    _address = ""  # as people are told of it
    _secrets: tuple[str, ...] = ()  # which no word of the engine may tell

    def __init__(self, model: Model, name: str, engine: str, pool: Pool, patience: float) -> None:
        """`name` is what the engine calls the model, `engine` how people are told of it; `patience` in seconds."""
        self._model = model
        self._name = name
        self._engine = engine
        self._pool = pool
        self._patience = patience
        assert model.tokenizer is not None
        self._vocabulary = Vocabulary(model.tokenizer, pool)
        self._num_ctx = 0
        self._control_texts: frozenset[str] = frozenset()
        self._patterns: dict[frozenset[str], re.Pattern[str] | None] = {}
        self.report = LoadReport()

    @property
    def num_ctx(self) -> int:
        """Tokens that prompt and answer may have together, as the engine tells."""
        return self._num_ctx

    async def load(self) -> None:
        """Read the vocabulary, start and look at the engine; raises LoadError, RequestError, EngineError."""
        await self._load_vocabulary()
        await self._start()
        try:
            await self._look()
        except BaseException:  # also of a load that is cancelled
            await self.close()
            raise

    @abstractmethod
    async def close(self) -> None:
        """Let the engine go; returns when nothing of ours is left."""

    @abstractmethod
    async def _start(self) -> None:
        """Make `_connect` possible; what fails leaves nothing behind. Raises LoadError."""

    @abstractmethod
    async def _connect(self, method: str, path: str, data: bytes | None) -> aiohttp.ClientResponse:
        """The head of the engine's answer; raises EngineUnreachable, EngineDied."""

    @abstractmethod
    async def _broken(self) -> EngineError:
        """The error for an answer that broke off."""

    async def _load_vocabulary(self) -> None:
        """Read the tokens. Raises LoadError, ModelFileError."""
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise LoadError(
                f"models that vLLM runs need the package {missing[0]}",
                hint='in the folder of Serow\'s sources: pip install ".[remote]"',
            )
        await self._vocabulary.load()
        control = (self._vocabulary.decode([token]) for token in self._model.control_tokens)
        self._control_texts = frozenset(filter(None, control))

    async def _look(self) -> None:
        """Learn how much the engine holds, and whether it reads texts as we do; raises RequestError, EngineError."""
        try:
            models = (await self._call("GET", "/v1/models", None, _Models)).data
        except RequestError:
            raise EngineError(f"{self._engine} does not speak OpenAI's API: it has no /v1/models") from None
        found = next((each for each in models if each.id == self._name), None)
        if found is None:
            known = self._words(", ".join(each.id[:100] for each in models[:5])) or "none"
            raise RequestError(f"{self._engine} has no model '{self._name}'", hint=f"it has: {known}")
        self._num_ctx = found.max_model_len or self._model.context_length
        if self._num_ctx <= 0:
            raise EngineError(f"{self._engine} does not tell how long its context is")
        await self._compare()

    async def _compare(self) -> None:
        """Refuse an engine that reads texts in another way than we do: the same ids would be other words there."""
        ours = await self._vocabulary.encode(_PROBE, add_special=False)
        body = {"model": self._name, "prompt": _PROBE, "add_special_tokens": False}
        try:
            theirs = (await self._call("POST", "/tokenize", body, _Tokens)).tokens
        except RequestError:  # a router or another engine has no such route
            return
        if ours != theirs:
            raise EngineError(
                f"{self._engine} has another tokenizer than this model",
                hint="create the model anew with TOKENIZER, the folder that the engine was started with",
            )

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """Token ids of a text; special tokens written out in it count as such."""
        return await self._vocabulary.encode(text, add_special=add_special)

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids, special tokens written out."""
        return self._vocabulary.decode(tokens)

    async def apply_template(
        self,
        messages: Sequence[dict[str, Any]],
        template_kwargs: dict[str, Any],
        tools: Sequence[dict[str, Any]] = (),
        client: str = "",
    ) -> str:
        """Render messages with the model's own chat template, for a client, in a worker; raises TemplateError."""
        variables = {**self._model.template_variables, **template_kwargs}
        try:
            template = self._model.chat_template
            given = template, list(messages), list(tools), variables
            return await self._pool.run(render, *given, client=client, limits=_RENDER)
        except LimitExceeded as error:
            raise TemplateError(f"the model's chat template fails: it {error.reason}") from None

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        """Yield chunks as they arrive, the last with `usage`. Closing the iterator closes the connection: the engine stops.

        Raises RequestError before the first chunk for what is the request's fault; EngineError, EngineUnreachable.
        """
        if isinstance(request.prompt, str):
            raise Incapable(self._model.name.display_shortest, "images")
        if len(request.prompt) >= self._num_ctx:
            raise RequestError(f"the prompt has {len(request.prompt)} tokens, the context holds {self._num_ctx}")
        body = completion_body(request, self._name, self._num_ctx)
        builder = ChunkBuilder(
            request, self._vocabulary.bytes_of, self._model.control_tokens, self._hidden(frozenset(request.visible))
        )
        async with self._ask("POST", "/v1/completions", body) as response, aclosing(self._events(response)) as events:
            async for event in events:
                if event.error is not None:
                    raise EngineError(f"{self._engine} failed: {self._words(event.error.message)}")
                chunk = builder.step(event)
                if builder.num_tokens > body["max_tokens"]:
                    raise EngineError(f"{self._engine} sends more tokens than it was asked for")
                if chunk is not None:
                    yield chunk
        if not builder.is_finished:
            raise await self._broken()
        yield builder.finish()

    async def embed(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """One vector for each list of token ids, as the engine pools them. Raises RequestError, EngineError."""
        body = {"model": self._name, "input": inputs, "encoding_format": "float"}
        found = (await self._call("POST", "/v1/embeddings", body, _Vectors, self._patience)).data
        return [each.embedding for each in sorted(found, key=lambda each: each.index)]

    async def health(self) -> dict[str, Any]:
        """What the engine tells of itself now: `healthy`, and its version and requests where it tells them."""
        health, version, metrics = await asyncio.gather(*map(self._told, ("/health", "/version", "/metrics")))
        address = {"address": self._address} if self._address else {}
        return {**address, "healthy": health is not None, **told(version or b"", metrics or b"")}

    async def _told(self, path: str) -> bytes | None:
        """What it answers, None for nothing in time."""
        try:
            async with asyncio.timeout(_LOOK), self._ask("GET", path, None) as response:
                return await _whole(response, _MOST)
        except (TimeoutError, SerowError):
            return None

    def _hidden(self, visible: frozenset[str]) -> re.Pattern[str] | None:
        """What finds the control tokens that an answer does not show; None where there are none."""
        shown = visible & self._control_texts
        if shown not in self._patterns:
            if len(self._patterns) >= _MOST_PATTERNS:
                self._patterns.clear()
            texts = sorted(self._control_texts - shown, key=len, reverse=True)
            self._patterns[shown] = re.compile("|".join(map(re.escape, texts))) if texts else None
        return self._patterns[shown]

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncGenerator[Event, None]:
        reader, clock, silence = EventReader(), asyncio.get_running_loop().time, 0.0
        while not reader.is_done:
            asked = clock()
            if not (piece := await self._read(response)):
                return
            silence += clock() - asked
            for event in reader.feed(piece):
                if event.choices and (event.choices[0].text or event.choices[0].token_ids):
                    silence = 0.0
                yield event
            if silence > self._patience:  # comments, or half a line that never ends
                raise EngineUnreachable(f"{self._engine} made no progress for {self._patience:g} seconds", hint="ask again")
        with suppress(TimeoutError):  # the end of a body that was read lets the connection be used again
            async with asyncio.timeout(_END):
                await response.content.readany()

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """More of an answer, b"" at its end."""
        return await response.content.readany()

    async def _call(self, method: str, path: str, body: Any, kind: type[T], seconds: float = ANSWER) -> T:
        try:
            async with asyncio.timeout(seconds), self._ask(method, path, body) as response:
                data = await _whole(response, _MOST)
        except TimeoutError:
            raise EngineUnreachable(f"{self._engine} did not answer within {seconds:g} seconds", hint="ask again") from None
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise EngineError(f"{self._engine} sent something that is not an answer") from None

    @asynccontextmanager
    async def _ask(self, method: str, path: str, body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer to be read; raises what `_refusal` says, and what a connection that breaks is told with."""
        response = await self._connect(method, path, None if body is None else msgspec.json.encode(body))
        try:
            async with response:
                if response.status != 200 or response.content_type == "text/html":
                    raise await self._refusal(response)
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ServerTimeoutError):
                raise  # a deadline of the caller's own
            raise await self._broken() from None

    async def _refusal(self, response: aiohttp.ClientResponse) -> SerowError:
        """What an answer means that is none."""
        engine, status, words = self._engine, response.status, await self._fault(response)
        if status in (429, 503):
            return EngineBusy(f"{engine} is busy: {words or 'please try again'}", response.headers.get("Retry-After"))
        if status in (400, 404, 413, 422):
            return RequestError(f"{engine} refuses the request: {words or status}")
        if status in (401, 403):
            return EngineError(f"{engine} refuses our key", hint="SEROW_REMOTE_KEYS=HOST=KEY gives it one")
        if 300 <= status < 400:
            return EngineError(f"{engine} sends its clients elsewhere, which is not followed")
        if status == 200:
            return EngineError(f"what answers for {engine} is a web page")
        return EngineError(f"{engine} failed with status {status}{words and f': {words}'}")

    async def _fault(self, response: aiohttp.ClientResponse) -> str:
        try:
            async with asyncio.timeout(ANSWER):
                found = msgspec.json.decode(await _whole(response, LONGEST_EVENT), type=_Failure)
        except (TimeoutError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return ""
        return self._words(found.error.message if found.error else found.message)

    def _words(self, text: str) -> str:
        """The engine's own words, on one line, without the key that it was asked with."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return " ".join(text.split())[:_LONGEST_WORDS]


async def _whole(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """A body, as far as it goes within a limit in bytes."""
    pieces, size = [], 0
    while size <= limit and (piece := await response.content.readany()):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces) if size <= limit else b""
