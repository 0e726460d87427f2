"""A language model in an engine on another machine: the TextRunner (REM-02).

It starts nothing and ends nothing. A request goes to the first of its addresses that takes a connection; which replica works
is the business of the router that stands there.
"""

import asyncio
import importlib.util
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Struct

from serow.engines.base import Chunk, CompletionRequest, LoadRequest
from serow.engines.llamacpp.report import LoadReport
from serow.engines.remote.events import LONGEST_EVENT, ChunkBuilder, EventReader, Fault
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
from serow.settings import Settings
from serow.store.engine_address import Address, addresses_of, check_allowed, key_of
from serow.workers.pool import Limits, Pool

T = TypeVar("T")
PACKAGES = ("tokenizers", "jinja2")  # of the extra `remote`
CONNECT_TIMEOUT = 5.0  # seconds
REST = 2.0  # seconds in which an address that took no connection is asked only when no other is left
_KEPT = 2.0  # seconds that an idle connection stays: less than engines keep it, whose end would meet a request
_END = 0.5  # seconds that an answer may take to end when all is said
_ANSWER = 10.0  # seconds for a small question
_MOST = 16 << 20  # bytes of an answer that is no stream
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


class RemoteRunner:
    """A model at its addresses. What its process holds is not ours to know."""

    pid = 0
    size = 0
    media_marker = ""
    num_draft = 0

    def __init__(self, request: LoadRequest, settings: Settings, pool: Pool) -> None:
        self._model = request.model
        self._settings = settings
        self._pool = pool
        self._addresses = addresses_of(request.model.remote_host)
        self._vocabulary = Vocabulary(request.model.weights, pool)
        self._resting: dict[Address, float] = {}  # until when
        self._session: aiohttp.ClientSession | None = None
        self._num_ctx = 0
        self._variables = request.model.template_variables
        self.report = LoadReport()

    @property
    def is_alive(self) -> bool:
        """Whether it can take requests: each one finds out for itself whether its engine does."""
        return self._session is not None

    @property
    def num_ctx(self) -> int:
        """Tokens that prompt and answer may have together, as the engine tells."""
        return self._num_ctx

    async def load(self) -> None:
        """Read the vocabulary and look at the engine. Raises EngineUnreachable, RequestError."""
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise LoadError(
                f"models at an address need the package {missing[0]}",
                hint='in the folder of Serow\'s sources: pip install ".[remote]"',
            )
        check_allowed(self._addresses, self._settings.remotes, is_offline=self._settings.offline)
        await self._vocabulary.load()
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT, sock_read=self._settings.stall_timeout)
        self._session = aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT), auto_decompress=False
        )
        try:
            await self._look()
            await self._compare()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the connections; the engine goes on."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _look(self) -> None:
        """Learn how much the engine holds; raises RequestError for a model that it has not."""
        models = (await self._call("GET", "/v1/models", None, _Models)).data
        found = next((each for each in models if each.id == self._model.remote_model), None)
        if found is None:
            known = ", ".join(each.id[:100] for each in models[:5]) or "none"
            raise RequestError(
                f"the engine at {self._where} has no model '{self._model.remote_model}'", hint=f"it has: {known}"
            )
        self._num_ctx = found.max_model_len or self._model.context_length
        if not self._num_ctx:
            raise EngineError(f"the engine at {self._where} does not tell how long its context is")

    async def _compare(self) -> None:
        """Refuse an engine that reads texts in another way than we do: the same ids would be other words there."""
        ours = await self._vocabulary.encode(_PROBE, add_special=False)
        body = {"model": self._model.remote_model, "prompt": _PROBE, "add_special_tokens": False}
        try:
            theirs = (await self._call("POST", "/tokenize", body, _Tokens)).tokens
        except RequestError:  # a router or another engine has no such route
            return
        if ours != theirs:
            raise EngineError(
                f"the engine at {self._where} has another tokenizer than this model",
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
        variables = {**self._variables, **template_kwargs}
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
        body = completion_body(request, self._model.remote_model, self._num_ctx)
        builder = ChunkBuilder(
            request, self._vocabulary.bytes_of, self._model.control_tokens, self._hidden(frozenset(request.visible))
        )
        async with self._ask("POST", "/v1/completions", body) as response, aclosing(self._events(response)) as events:
            async for event in events:
                if event.error is not None:
                    raise EngineError(f"the engine at {self._where} failed: {_words(event.error.message)}")
                if chunk := builder.step(event):
                    yield chunk
        if not builder.is_finished:
            raise EngineUnreachable(f"the engine at {self._where} broke off its answer", hint="ask again")
        yield builder.finish()

    async def embed(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """One vector for each list of token ids, as the engine pools them. Raises RequestError, EngineError."""
        body = {"model": self._model.remote_model, "input": inputs, "encoding_format": "float"}
        found = (await self._call("POST", "/v1/embeddings", body, _Vectors, self._settings.stall_timeout)).data
        return [each.embedding for each in sorted(found, key=lambda each: each.index)]

    @property
    def _where(self) -> str:
        return ", ".join(map(str, self._addresses))

    def _hidden(self, visible: frozenset[str]) -> re.Pattern[str] | None:
        """What finds the control tokens that an answer does not show; None where there are none."""
        texts = {self._vocabulary.decode([token]) for token in self._model.control_tokens} - visible - {""}
        return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True)))) if texts else None

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncGenerator[Any, None]:
        reader = EventReader()
        while not reader.is_done and (piece := await response.content.readany()):
            for event in reader.feed(piece):
                yield event
        with suppress(TimeoutError):  # the end of a body that was read lets the connection be used again
            async with asyncio.timeout(_END):
                await response.content.readany()

    async def _call(self, method: str, path: str, body: Any, kind: type[T], seconds: float = _ANSWER) -> T:
        async with asyncio.timeout(seconds), self._ask(method, path, body) as response:
            try:
                return msgspec.json.decode(await _whole(response, _MOST), type=kind)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                raise EngineError(f"the engine at {self._where} sent something that is not an answer") from None

    @asynccontextmanager
    async def _ask(self, method: str, path: str, body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer of the first address that takes a connection. Raises what `_refusal` says, EngineUnreachable."""
        response = await self._connect(method, path, None if body is None else msgspec.json.encode(body))
        try:
            async with response:
                if response.status != 200 or response.content_type == "text/html":
                    raise await _refusal(response, self._where)
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ServerTimeoutError):
                raise  # a deadline of the caller's own
            raise EngineUnreachable(f"the engine at {self._where} broke off its answer", hint="ask again") from None

    async def _connect(self, method: str, path: str, data: bytes | None) -> aiohttp.ClientResponse:
        if self._session is None:
            raise EngineUnreachable(f"the connection to the engine at {self._where} is closed")
        now = time.monotonic()
        rested = [each for each in self._addresses if self._resting.get(each, 0.0) <= now]
        for address in rested or self._addresses[:1]:
            key = key_of(address, self._settings.remote_keys)
            headers = {
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {key}"} if key else {}),
            }
            try:
                return await self._session.request(
                    method, f"{address.url}{path}", data=data, headers=headers, allow_redirects=False
                )
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                self._resting[address] = time.monotonic() + REST
            except (aiohttp.ClientError, TimeoutError):  # it may have begun the work: nobody else is to do it again
                break
        raise EngineUnreachable(
            f"the engine at {self._where} does not answer", hint="start it, or look at its log; the next request tries again"
        )


async def _refusal(response: aiohttp.ClientResponse, where: str) -> SerowError:
    """What an answer means that is none."""
    status, words = response.status, _words(await _fault(response))
    if status in (429, 503):
        return EngineBusy(f"the engine at {where} is busy: {words or 'please try again'}", response.headers.get("Retry-After"))
    if status in (400, 404, 413, 422):
        return RequestError(f"the engine at {where} refuses the request: {words or status}")
    if status in (401, 403):
        return EngineError(f"the engine at {where} refuses our key", hint="SEROW_REMOTE_KEYS=HOST=KEY gives it one")
    if 300 <= status < 400:
        return EngineError(f"the engine at {where} sends its clients elsewhere, which is not followed")
    if status == 200:
        return EngineError(f"what answers at {where} is a web page, not an engine")
    return EngineError(f"the engine at {where} failed with status {status}{words and f': {words}'}")


async def _fault(response: aiohttp.ClientResponse) -> str:
    try:
        found = msgspec.json.decode(await _whole(response, LONGEST_EVENT), type=_Failure)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return found.error.message if found.error else found.message


async def _whole(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """A body, as far as it goes within a limit in bytes."""
    pieces, size = [], 0
    while size <= limit and (piece := await response.content.readany()):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces) if size <= limit else b""


def _words(text: str) -> str:
    """The engine's own words, on one line."""
    return " ".join(text.split())[:300]
