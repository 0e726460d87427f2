"""A text-to-image pipeline in a child process of its own: the ImageRunner."""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httptools
import msgspec

from serow.engines.base import ImageChunk, ImageRequest, LoadRequest
from serow.engines.diffusers.installed import is_there
from serow.engines.diffusers.protocol import FAULT, HEARTBEAT, Event, ImageSpec
from serow.engines.llamacpp.report import LoadReport
from serow.engines.process import ChildProcess, ChildRunner, explain_exit
from serow.engines.stream import AnswerStream
from serow.errors import EngineError, LoadError, NotEnoughMemory, RequestError
from serow.settings import Settings

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "gguf", "peft")
_LONGEST_LINE = 1 << 30  # bytes; eight pictures of 4096x4096 pixels take at most 64 MiB each as base64
logger = logging.getLogger(__name__)
_FAULTS = {"request": RequestError, "size": NotEnoughMemory, "memory": NotEnoughMemory, "engine": EngineError}


def require_packages() -> None:
    """Raise RequestError unless the packages that draw are installed; none of them is imported."""
    missing = [name for name in PACKAGES if not is_there(name)]
    if missing:
        raise RequestError(
            f'image models need the package {missing[0]}: in the folder of Serow\'s sources, pip install ".[image]"',
            hint='in the folder of Serow\'s sources: pip install ".[image]"; then start the server again',
        )


class ImageRunner(ChildRunner):
    """diffusers on torch. One picture at a time; a second request waits for the first."""

    def __init__(self, request: LoadRequest, settings: Settings) -> None:
        options = request.options
        self.report = LoadReport()
        self._name = request.model.name.display_shortest
        self._stall_timeout = max(settings.stall_timeout, 2 * HEARTBEAT)
        spec = ImageSpec(
            folder=str(request.model.weights),
            num_gpu=options.num_gpu,
            main_gpu=options.main_gpu,
            num_thread=options.num_thread,
            device=_device(request),
            is_offloaded=0 < sum(use.layers for use in request.uses) < request.num_layers,
            name=self._name if settings.picture_text else "",
        )
        self._child = ChildProcess(
            "serow.engines.diffusers.worker",
            spec,
            load_timeout=settings.load_timeout,
            stall_timeout=self._stall_timeout,
            explain=explain_load,
            hear=self.report.feed,
        )
        self._is_spent = False

    @property
    def is_alive(self) -> bool:
        """Whether it can draw. A pipeline that ran out of memory is to be loaded anew."""
        return super().is_alive and not self._is_spent

    async def load(self) -> None:
        """Start the child and wait until the pipeline is in memory; raises RequestError, LoadError."""
        require_packages()
        try:
            await self._child.start()
        except LoadError:
            if self._child.stderr:
                logger.error("%s could not be loaded: %s", self._name, self._child.stderr)
            raise

    async def draw(self, request: ImageRequest) -> AsyncGenerator[ImageChunk, None]:
        """Yield a chunk after every step, the last with the picture. Closing the iterator stops the work in its step.

        Raises RequestError before the first chunk for what is the request's fault; NotEnoughMemory, EngineDied, EngineError.
        """
        if not self.is_alive:
            raise await self._child.gone()
        async with self._errors(), self._child.stream("/draw", msgspec.json.encode(request)) as answer:
            async for line in self._lines(answer):
                chunk = self._chunk(msgspec.json.decode(line, type=Event))
                yield chunk
                if chunk.images:
                    return
        raise await self._child.gone()

    async def _lines(self, answer: AnswerStream) -> AsyncIterator[bytes]:
        """The lines of an answer, without the blank ones."""
        rest, longest = bytearray(), self._stall_timeout if self._stall_timeout < math.inf else None
        await asyncio.wait_for(answer.head(), longest)
        while piece := await asyncio.wait_for(answer.read(), longest):
            rest += piece
            if len(rest) > _LONGEST_LINE:
                raise EngineError("the engine sent a picture that is too large")
            if b"\n" in piece:
                *lines, rest = rest.split(b"\n")
                for line in filter(None, lines):
                    yield bytes(line)

    @asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        """What goes wrong with the child's answer, in our words."""
        try:
            yield
        except TimeoutError:
            self._child.kill("the engine does not answer")
            raise await self._child.gone() from None
        except ConnectionError:
            raise await self._child.gone() from None
        except (msgspec.DecodeError, httptools.HttpParserError):
            raise EngineError("the engine sent something that is not an answer") from None

    def _chunk(self, event: Event) -> ImageChunk:
        if event.fault is not None:
            self._is_spent = event.fault.kind == "memory"
            if event.fault.trace:
                logger.error("%s failed to draw: %s", self._name, event.fault.trace)
            raise _FAULTS[event.fault.kind](event.fault.message, param=event.fault.param)
        if event.chunk is None:
            raise EngineError("the engine sent something that is not an answer")
        return event.chunk


def _device(request: LoadRequest) -> str:
    """What was planned, in torch's words; "" where there is nothing to plan with."""
    if request.uses:
        return request.uses[0].handle
    return "cpu" if request.num_layers else ""


def explain_load(returncode: int, stderr: str) -> str:
    """The sentence for a pipeline that could not be loaded: the child's own, if it came to say one."""
    said = [line.removeprefix(FAULT) for line in stderr.splitlines() if line.startswith(FAULT)]
    return said[-1] if said else explain_exit(returncode, stderr)
