"""The chat templates of model files, which strangers wrote, rendered where they harm nobody: in the processes of a pool.

A worker has llama.cpp's own interpreter, and in place of the model a file that holds what a template can see of it. So the
engine never meets the template: one that works for ever, or eats memory, costs its request a 400 and a worker its life.
"""

import asyncio
import hashlib
import tempfile
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from serow.engines.llamacpp import rendering
from serow.engines.llamacpp.events import Fault
from serow.engines.llamacpp.rendering import Reply
from serow.engines.llamacpp.template import refused
from serow.errors import LimitExceeded, TemplateError, Unavailable
from serow.store.model import Model
from serow.store.tokenizer_file import that_renders
from serow.workers.pool import Limits, Pool

MEMORY = 400 << 20  # bytes
_CPU, _FOR_MESSAGE = 1.0, 0.0004  # seconds for any conversation, and for each of its messages; 0.0002 are usual
_SLOWNESS = 15  # of a busy machine: CPU time is what ends a template
_READING = Limits(cpu=5.0, memory=480 << 20)  # as heads of model files are read
_REFUSED_FOR = 300.0  # seconds in which a template that can't be used is not tried again
_KEPT = 64  # files
_HINT = "make a model of it with a TEMPLATE, send a template, or a raw prompt"

_Stamp = tuple[Path, int, int]


@dataclass
class _File:
    """What stands for a model where its template is rendered."""

    path: Path
    is_ready: bool = False
    words: str = ""  # why its template can't be used
    refused_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # one tries it first


class ChatTemplates:
    """One for a server, as an async context."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._files: OrderedDict[_Stamp, _File] = OrderedDict()  # the one used longest ago first
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            await asyncio.to_thread(self._folder.cleanup)

    async def render(
        self,
        model: Model,
        messages: Sequence[dict[str, Any]],
        template_kwargs: dict[str, Any],
        tools: Sequence[dict[str, Any]] = (),
        client: str = "",
    ) -> str:
        """The text of messages by the model's own template. Raises TemplateError, ModelFileError, Unavailable."""
        file = await self._ready(model, client)
        body: dict[str, Any] = {"messages": messages, "chat_template_kwargs": template_kwargs}
        if tools:
            body |= {"tools": tools, "tool_choice": "none"}  # they are rendered all the same, and no grammar is made of them
        begun = time.monotonic()
        try:
            reply = await self._pool.run(
                rendering.render, str(file.path), model.chat_template, body, client=client, limits=limits(len(messages))
            )
        except LimitExceeded as error:
            _check_clock(begun, limits(len(messages)))
            raise TemplateError(f"the model's chat template {error.reason}") from None
        return _text(reply)

    async def _ready(self, model: Model, client: str) -> _File:
        """The file of a model whose template was tried, once for as long as the file is what it was."""
        status = await asyncio.to_thread(model.weights.stat)
        stamp = model.weights, status.st_mtime_ns, status.st_size
        file = self._files.get(stamp)
        if file is None:
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="serow-templates-")
            name = hashlib.sha256(repr(stamp).encode()).hexdigest()
            file = self._files[stamp] = _File(Path(self._folder.name, f"{name}.gguf"))
            while len(self._files) > _KEPT:
                self._files.popitem(last=False)[1].path.unlink(missing_ok=True)
        self._files.move_to_end(stamp)
        async with file.lock:
            if not file.is_ready:
                await self._try(file, model, client)
        return file

    async def _try(self, file: _File, model: Model, client: str) -> None:
        """Have its interpreter try the template, as it does with conversations of its own when it starts."""
        if file.words and time.monotonic() - file.refused_at < _REFUSED_FOR:
            raise TemplateError(file.words, hint=_HINT)
        data = await self._pool.run(that_renders, model.weights, client=client, limits=_READING)
        await asyncio.to_thread(file.path.write_bytes, data)
        begun = time.monotonic()
        try:
            await self._pool.run(rendering.prepare, str(file.path), model.chat_template, client=client, limits=limits())
        except TemplateError as error:
            file.words = str(error)
        except LimitExceeded as error:
            _check_clock(begun, limits())
            file.words = f"the model's chat template {error.reason} when it was tried"
        else:
            file.is_ready = True
            return
        file.refused_at = time.monotonic()
        raise TemplateError(file.words, hint=_HINT)


def limits(num_messages: int = 0) -> Limits:
    """What a template may use for a conversation."""
    cpu = _CPU + _FOR_MESSAGE * num_messages
    return Limits(cpu=cpu, memory=MEMORY, wall=cpu * _SLOWNESS)


def _check_clock(begun: float, limits: Limits) -> None:
    """Raise Unavailable where a limit was that of the clock: the machine was too busy, which says nothing of the template."""
    if time.monotonic() - begun >= limits.wall:
        raise Unavailable("server busy, please try again: the model's chat template could not be rendered in time")


def _text(reply: Reply) -> str:
    if reply.fault is not None:
        raise refused(Fault(message=reply.fault))
    return reply.prompt
