"""A language model in a llama.cpp server of its own: the TextRunner."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import aiohttp
import httptools
import msgspec
from msgspec import Struct

from serow.engines import wheel_cpu
from serow.engines.base import Chunk, CompletionRequest, LoadRequest
from serow.engines.llamacpp.chat_templates import ChatTemplates
from serow.engines.llamacpp.errors import explain_end, explain_load, refusal, shortage
from serow.engines.llamacpp.events import ChunkBuilder, EventReader, Fault
from serow.engines.llamacpp.params import describe
from serow.engines.llamacpp.pieces import Pieces
from serow.engines.llamacpp.report import LoadReport
from serow.engines.llamacpp.request import completion_body
from serow.engines.llamacpp.slot_cache import SlotCache
from serow.engines.llamacpp.slots import SlotKeeper
from serow.engines.llamacpp.spec import batch_size, draft_sizes
from serow.engines.llamacpp.special import SpecialTokens, without
from serow.engines.llamacpp.template import ChatTemplate, refused
from serow.engines.process import ChildProcess, ChildRunner
from serow.engines.stream import AnswerStream, Unreachable
from serow.engines.watchdog import Watchdog
from serow.errors import EngineDied, EngineError, LoadError, RequestError, SerowError, TemplateError
from serow.settings import Settings

T = TypeVar("T")
_log = logging.getLogger(__name__)
_TEMPLATE_TIMEOUT = 30.0  # seconds that a model's own template may run
_AS_POOLED = -1  # of the engine's ways to normalise
_SLOWEST_EMBEDDING = 10.0  # tokens a second
_GROUP = 8192  # tokens that are embedded by one call to the engine, which keeps all of their vectors until the last is there


class _Settings(Struct):
    n_ctx: int


class _Props(Struct):
    default_generation_settings: _Settings
    media_marker: str = ""  # "" where there are no pictures


class _Tokens(Struct):
    tokens: list[int]


class _Content(Struct):
    content: str


class _Prompt(Struct):
    prompt: str


class _Vector(Struct):
    index: int
    embedding: list[list[float]]


class _Failure(Struct):
    error: Fault


class LlamaRunner(ChildRunner):
    """A model in the engine that its request to load names. With a SlotCache its prompts survive an unload.

    With ChatTemplates the model's own template is rendered there, and the engine gets none.
    """

    def __init__(
        self,
        request: LoadRequest,
        settings: Settings,
        slots: SlotCache | None = None,
        templates: ChatTemplates | None = None,
    ) -> None:
        self._request = request
        self._settings = settings
        self._kind = request.engine.kind
        # The state of a smaller model that guesses is not in the file of a slot, and it can't begin in the middle of a text.
        place = slots.place(request) if slots and not request.embeds and not request.flags.draft_model else None
        self._slots = SlotKeeper(place, request, self._call)
        self._template = ChatTemplate(request.model.chat_template, is_used=templates is None)
        self._templates = templates
        self.report = LoadReport()
        self._child = self._new_child()
        self._template_limit = min(_TEMPLATE_TIMEOUT, settings.stall_timeout)
        stalled = f"the engine made no progress for {settings.stall_timeout:g} seconds"
        self._watchdog = Watchdog(settings.stall_timeout, lambda: self._child.kill(stalled))
        self._props: _Props | None = None
        self._special = SpecialTokens(request.model.control_tokens, self)
        self._pieces = Pieces(request.model.whole_tokens, self)

    @property
    def num_ctx(self) -> int:
        """Tokens that each slot really has: the engine rounds up to 256 and holds to the trained length."""
        return self._loaded.default_generation_settings.n_ctx

    @property
    def num_draft(self) -> int:
        """Tokens that it guesses at once; 0 where it never guesses."""
        spec = describe(self._request)
        return draft_sizes(spec, batch_size(spec, has_gpu=bool(spec.has_gpu))).most

    @property
    def media_marker(self) -> str:
        """The text that stands for a picture in a prompt; another one for every load."""
        return self._loaded.media_marker

    @property
    def _loaded(self) -> _Props:
        if self._props is None:
            raise EngineDied("the engine is not running")
        return self._props

    def _new_child(self) -> ChildProcess:
        spec = describe(self._request, self._slots.path, self._template.override)
        self.report = LoadReport()
        return ChildProcess(
            "serow.engines.llamacpp.launcher" if self._kind.flags else "serow.engines.llamacpp.worker",
            spec,
            load_timeout=self._settings.load_timeout,
            stall_timeout=self._settings.stall_timeout,
            explain=explain_load,
            explain_end=explain_end,
            may_use_unix_socket=self._kind.has_unix_sockets,
            memory_limit=spec.memory_limit,
            hear=self.report.feed,
        )

    async def load(self) -> None:
        """Start the engine and wait until the model is in memory; raises LoadError."""
        if self._kind.flags is None and (reason := wheel_cpu.refusal()):
            raise LoadError(reason, hint=wheel_cpu.HINT)
        try:
            await self._slots.open()
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Save the slots of an engine that works, and end it; returns when its process is gone."""
        try:
            if self._props and self.is_alive:
                await self._slots.save(self.num_ctx)
        finally:
            await super().close()
            await self._slots.close()

    async def _start(self) -> None:
        """Start a process with the slots that were saved, or, when it falls over them, another one without."""
        await self._start_child()
        try:
            await self._slots.restore()
            self._props = await self._call("GET", "/props", None, _Props)
        except (EngineDied, TimeoutError) as error:
            if not self._slots.forget():
                raise
            _log.warning("the engine fell over a saved slot and is started again without: %s", error)
            self._child.kill("the engine hangs")
            await self._child.close()
            await self._start_child()
            self._props = await self._call("GET", "/props", None, _Props)

    async def _start_child(self) -> None:
        """Start a process with the model's own chat template, or, when it does not start with that, as it does."""
        while True:
            self._child = self._new_child()
            try:
                await self._child.start()
            except LoadError as error:
                if too_little := shortage(self._child.stderr):
                    raise too_little from error
                if not self._template.fall_back(self._child.stderr, is_greedy=self._child.is_greedy):
                    raise
                _log.warning("the engine does not start with the model's chat template and is started again without")
            else:
                return

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """Token ids of a text; special tokens written out in it count as such."""
        return await self._pieces.tokenize(text, add_special=add_special)

    async def tokenize_at_once(self, text: str, *, add_special: bool) -> list[int]:
        """The same by one question."""
        body = {"content": text, "add_special": add_special, "parse_special": True}
        return (await self._call("POST", "/tokenize", body, _Tokens)).tokens

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids, special tokens written out."""
        return (await self._call("POST", "/detokenize", {"tokens": tokens}, _Content)).content

    async def apply_template(
        self,
        messages: Sequence[dict[str, Any]],
        template_kwargs: dict[str, Any],
        tools: Sequence[dict[str, Any]] = (),
        client: str = "",
    ) -> str:
        """Render messages with the model's own chat template, for a client; raises TemplateError."""
        if self._templates is not None:
            return await self._templates.render(self._request.model, messages, template_kwargs, tools, client)
        body = self._template.body(messages, template_kwargs)
        if tools:
            body |= {"tools": tools, "tool_choice": "none"}  # they are rendered all the same, and no grammar is made of them
        try:
            async with asyncio.timeout(self._template_limit):
                return (await self._call("POST", "/apply-template", body, _Prompt, refused=refused)).prompt
        except TimeoutError:
            answers = await self._child.answers()
            self._child.kill("the model's chat template ran too long" if answers else "the engine does not answer")
            if not answers:
                raise await self._child.gone() from None
            raise TemplateError(f"the model's chat template runs longer than {self._template_limit:g} seconds") from None
        except EngineDied:
            if not self._child.is_greedy:
                raise
            raise TemplateError("the model's chat template takes more memory than it may have") from None

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        """Yield a chunk for each event as it arrives, the last with `usage`. Closing the iterator stops the engine's work.

        Raises RequestError before the first chunk for what is the request's fault; EngineDied, EngineError at any time.
        """
        if not isinstance(request.prompt, str) and len(request.prompt) >= self.num_ctx:
            raise RequestError(f"the prompt has {len(request.prompt)} tokens, the context holds {self.num_ctx}")
        num_prompt = None if isinstance(request.prompt, str) else len(request.prompt)
        events = EventReader()
        builder = ChunkBuilder(top_logprobs=request.top_logprobs, num_ctx=self.num_ctx, num_prompt=num_prompt)
        shown, hidden = set(request.visible), await self._special.in_stops(request.options.stop)
        taken_out = hidden - shown
        is_first = True
        body = completion_body(replace(request, visible=(*request.visible, *hidden)), self.num_ctx, self._kind)
        async with self._stream("/completion", body) as answer:
            while piece := await self._read(answer):
                for event in events.feed(piece):
                    if event.error is not None:
                        raise refusal(event.error)
                    if event.stop:
                        held = await self._special.without(builder.held, shown) if event.is_limit else []
                        yield builder.finish(event, await self.detokenize(held) if held else "")
                        return
                    text = await self.detokenize(event.tokens) if builder.lacks_text(event) else None
                    chunk = builder.step(event, text)
                    if taken_out:
                        chunk = without(chunk, taken_out)
                    if is_first and (read := events.progress):
                        chunk = msgspec.structs.replace(chunk, prompt_eval_count=read.total, prompt_cached_count=read.cache)
                    is_first = False
                    yield chunk
        raise await self._child.gone()

    async def embed(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """One vector for each list of token ids, as the model pools them. Raises EngineDied, EngineError."""
        vectors: list[list[float]] = []
        for group in _groups(inputs):
            body = {"content": group, "embd_normalize": _AS_POOLED}
            slow = sum(map(len, group)) / _SLOWEST_EMBEDDING
            limit = aiohttp.ClientTimeout(total=self._settings.stall_timeout + slow)
            found = await self._call("POST", "/embedding", body, list[_Vector], limit)
            vectors += [each.embedding[0] for each in sorted(found, key=lambda each: each.index)]
        return vectors

    @asynccontextmanager
    async def _stream(self, path: str, body: Any) -> AsyncIterator[AnswerStream]:
        """Send a request whose answer is read as it comes; its silence is the watchdog's business."""
        async with self._errors(), self._child.stream(path, msgspec.json.encode(body)) as answer:
            with self._watchdog:
                status = await answer.head()
            if status != 200:
                raise refusal(_fault(await answer.read_all(), status))
            yield answer

    async def _read(self, answer: AnswerStream) -> bytes:
        """More of an answer; the engine is watched while we wait for it, not while the client takes its time."""
        with self._watchdog:
            piece = await answer.read()
        if piece.strip(b":\n"):  # a comment is no sign of work
            self._watchdog.progress()
        return piece

    async def _call(
        self,
        method: str,
        path: str,
        body: Any,
        kind: type[T],
        limit: aiohttp.ClientTimeout | None = None,
        refused: Callable[[Fault], SerowError] = refusal,
    ) -> T:
        async with self._ask(method, path, body, limit, refused=refused) as response:
            return msgspec.json.decode(await response.read(), type=kind)

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        path: str,
        body: Any,
        limit: aiohttp.ClientTimeout | None = None,
        refused: Callable[[Fault], SerowError] = refusal,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request whose answer is read as a whole."""
        data, session = None if body is None else msgspec.json.encode(body), self._child.session
        async with self._errors(), session.request(method, path, data=data, timeout=limit or session.timeout) as response:
            if response.status != 200:
                raise refused(_fault(await response.read(), response.status))
            yield response

    @asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        """What goes wrong with a request, and while its answer is read, becomes an error of ours."""
        if not self.is_alive:
            raise await self._child.gone()
        try:
            yield
        except TimeoutError:
            self._child.kill("the engine does not answer")
            raise await self._child.gone() from None
        except (aiohttp.ClientConnectorError, Unreachable):  # alive or not, it serves nobody: its socket may have been removed
            await self._child.gone()
            self._child.kill("the engine can't be reached")
            raise await self._child.gone() from None
        except (aiohttp.ClientError, ConnectionError):
            raise await self._child.gone() from None
        except (msgspec.DecodeError, httptools.HttpParserError):
            raise EngineError("the engine sent something that is not an answer") from None


def _groups(inputs: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Inputs in order, as many together as the size of a group allows, and at least one."""
    group: list[Sequence[int]] = []
    num_tokens = 0
    for each in inputs:
        if group and num_tokens + len(each) > _GROUP:
            yield group
            group, num_tokens = [], 0
        group.append(each)
        num_tokens += len(each)
    if group:
        yield group


def _fault(body: bytes, status: int) -> Fault:
    try:
        return msgspec.json.decode(body, type=_Failure).error
    except msgspec.DecodeError:
        return Fault(code=status)
