"""The flow with engines that compute nothing: models that need no file, a real scheduler, no HTTP."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serow.errors import ModelNotFound
from serow.inference.ask import Ask
from serow.inference.events import Event
from serow.inference.service import Inference
from serow.scheduler.scheduler import Scheduler
from serow.settings import Settings
from serow.store.model import Capability, Model
from serow.store.name import Name
from serow.wire.json import encode
from serow.wire.ollama import GenerateStream, GenerateWhole, decode_generate
from serow.wire.ollama_chat import ChatStream, ChatWhole, decode_chat
from serow.wire.stream import Stream, Whole
from serow.workers.pool import Pool
from tests.support.engine import VOCAB_SIZE, Fake, FakePainter, starting

JINJA = "{{ messages }}"  # the fake engine renders by its own template; a model only has to have one


def model(name: str = "m", *capabilities: Capability, **fields: Any) -> Model:
    """A small language model with a Jinja template."""
    fields = {"chat_template": JINJA, "vocab_size": VOCAB_SIZE, "context_length": 4096, "kv_bytes": 1, **fields}
    return Model(
        name=Name.parse(name),
        digest=name,
        size=1 << 20,
        modified_at=datetime.now(UTC),
        weights=Path(name),
        capabilities=capabilities or ("completion",),
        **fields,
    )


class Models:
    """A store that holds these models and reads no file."""

    def __init__(self, *models: Model) -> None:
        self._models = {each.name: each for each in models}

    async def find(self, name: str) -> Model:
        found = self._models.get(Name.parse(name)) if name else None
        if found is None:
            raise ModelNotFound(name)
        return found

    def remove(self, name: str) -> None:
        """A model's files are gone, whoever removed them."""
        del self._models[Name.parse(name)]


class Flow:
    """Asks the model `m` as /api/generate and /api/chat do, and gives the records that a client gets."""

    def __init__(self, inference: Inference, scheduler: Scheduler, store: Models) -> None:
        self.inference = inference
        self.store = store
        self.scheduler = scheduler

    async def records(self, prompt: str = "", **fields: Any) -> AsyncGenerator[dict[str, Any], None]:
        """The records of an answer to a prompt."""
        ask = decode_generate(json.dumps({"model": "m", "prompt": prompt, **fields}).encode())
        async with aclosing(self._records(ask, GenerateStream("m"), GenerateWhole("m"))) as records:
            async for record in records:
                yield record

    async def _records(self, ask: Ask, stream: Stream[Event], whole: Whole[Event]) -> AsyncGenerator[dict[str, Any], None]:
        async with aclosing(self.inference.answer(ask)) as events:
            async for event in events:
                whole.add(event)
                if ask.stream and (line := stream.feed(event)):
                    yield json.loads(line)
        if not ask.stream:
            yield json.loads(encode(whole.value()))

    async def generate(self, prompt: str = "", **fields: Any) -> list[dict[str, Any]]:
        """All of them."""
        return [record async for record in self.records(prompt, **fields)]

    async def whole(self, prompt: str = "", **fields: Any) -> dict[str, Any]:
        """The one record of an answer that is not streamed."""
        (record,) = await self.generate(prompt, stream=False, **fields)
        return record

    async def chat(self, *messages: dict[str, Any] | str, **fields: Any) -> list[dict[str, Any]]:
        """The records of an answer to a conversation; a text is a message of the user."""
        said = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
        ask = decode_chat(json.dumps({"model": "m", "messages": said, **fields}).encode())
        return [record async for record in self._records(ask, ChatStream("m"), ChatWhole("m"))]

    async def reply(self, *messages: dict[str, Any] | str, **fields: Any) -> dict[str, Any]:
        """The one record of an answer to a conversation that is not streamed."""
        (record,) = await self.chat(*messages, stream=False, **fields)
        return record

    async def shown(self, *messages: dict[str, Any] | str, **fields: Any) -> str:
        """The prompt that a conversation becomes."""
        record = await self.reply(*messages, _debug_render_only=True, **fields)
        text: str = record["_debug_info"]["rendered_template"]
        return text


@asynccontextmanager
async def flow(runner: Fake, *capabilities: Capability, **fields: Any) -> AsyncIterator[Flow]:
    """The flow with one model, `m`, which this runner serves."""
    if isinstance(runner, FakePainter):
        capabilities = ("image",)
    store = Models(model("m", *capabilities, **fields))
    async with Pool() as pool, Scheduler(Settings(), starting(m=runner)) as scheduler:
        yield Flow(Inference(store, scheduler, pool), scheduler, store)  # type: ignore[arg-type]
