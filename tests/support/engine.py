"""An engine that computes nothing: it says what a test has written for it and remembers what it was asked.

A token id is the code point of one character, so that texts and ids turn into each other without a vocabulary. What it
"samples" are the pieces of its script, one token each.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Protocol

from serow.engines.base import Chunk, CompletionRequest, ImageChunk, ImageRequest, LoadRequest, Logprob, Usage
from serow.engines.llamacpp.report import LoadReport

Piece = str | Exception | asyncio.Event  # a token; what goes wrong instead; what has to happen before it goes on
Template = Callable[[Sequence[dict[str, Any]], dict[str, Any]], str]

VOCAB_SIZE = 0x110000
MEDIA_MARKER = "<__media__>"
PNG = b"\x89PNG\r\n\x1a\nfake"


class Script(Protocol):
    """What the engine says to a request."""

    def __call__(self, request: CompletionRequest) -> Sequence[Piece]: ...


def plain_template(messages: Sequence[dict[str, Any]], _: dict[str, Any]) -> str:
    """`[role]content` for each message, then the head of the answer."""
    return "".join(f"[{message['role']}]{message.get('content') or ''}\n" for message in messages) + "[assistant]"


class FakeRunner:
    """The life of a Runner that needs no process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.size = 1 << 20
        self.is_alive = False
        self.report = LoadReport()
        self.num_loads = 0
        self.num_running = 0

    async def load(self) -> None:
        self.is_alive = True
        self.num_loads += 1

    async def close(self) -> None:
        self.is_alive = False


class FakeEngine(FakeRunner):
    """A TextRunner. Each completion takes the next script, the last one for ever; a script may look at the request."""

    def __init__(self, *scripts: Sequence[Piece] | Script, num_ctx: int = 4096, template: Template = plain_template) -> None:
        super().__init__()
        self.scripts = list(scripts)
        self.template = template
        self.num_ctx = num_ctx
        self.media_marker = MEDIA_MARKER
        self.num_draft = 0
        self.requests: list[CompletionRequest] = []
        self.embedded: list[list[int]] = []  # the inputs of the latest call
        self.rendered: list[tuple[Sequence[dict[str, Any]], dict[str, Any]]] = []  # messages and template_kwargs
        self.tools: list[Sequence[dict[str, Any]]] = []  # that were rendered with them

    @property
    def prompts(self) -> list[str]:
        """The prompts of all completions, as texts."""
        return [text_of(request.prompt) for request in self.requests]

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        return [ord(character) for character in text]

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    async def apply_template(
        self,
        messages: Sequence[dict[str, Any]],
        template_kwargs: dict[str, Any],
        tools: Sequence[dict[str, Any]] = (),
        client: str = "",
    ) -> str:
        self.rendered.append((messages, template_kwargs))
        self.tools.append(tools)
        return self.template(messages, template_kwargs)

    async def embed(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """A vector that tells its input: number of tokens, sum of the first two ids, 3 and 4."""
        self.embedded = [list(tokens) for tokens in inputs]
        return [[float(len(tokens)), float(sum(tokens[:2])), 3.0, 4.0] for tokens in inputs]

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        self.num_running += 1
        try:
            async for chunk in _spoken(request, self._script(request), self.num_ctx):
                yield chunk
        finally:
            self.num_running -= 1

    def _script(self, request: CompletionRequest) -> Sequence[Piece]:
        script = self.scripts[min(len(self.requests), len(self.scripts)) - 1] if self.scripts else ()
        return script(request) if callable(script) else script


class FakePainter(FakeRunner):
    """An ImageRunner that takes `steps` steps."""

    def __init__(self, steps: int = 2, warnings: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.steps = steps
        self.warnings = warnings
        self.requests: list[ImageRequest] = []

    async def draw(self, request: ImageRequest) -> AsyncGenerator[ImageChunk, None]:
        self.requests.append(request)
        total = request.steps or self.steps
        for completed in range(1, total + 1):
            await asyncio.sleep(0)
            yield ImageChunk(completed, total)
        yield ImageChunk(total, total, (PNG,) * len(request.seeds), self.warnings, duration=1)


Fake = FakeEngine | FakePainter


def starting(**runners: Fake) -> Callable[[LoadRequest], Fake]:
    """A factory for the scheduler: the fake runner of each model by the model's name."""
    return lambda request: runners[request.model.name.model.replace("-", "_")]


def text_of(prompt: Sequence[int] | str) -> str:
    """A prompt as text."""
    return prompt if isinstance(prompt, str) else "".join(map(chr, prompt))


async def _spoken(request: CompletionRequest, script: Sequence[Piece], num_ctx: int) -> AsyncGenerator[Chunk, None]:
    """The script as an engine tells it: text that may begin a stop string is held back, and its log-probabilities with it."""
    held, held_logprobs, num_tokens = "", list[Logprob](), 0
    stops = request.options.stop
    for piece in script:
        if num_tokens == request.num_predict:
            break
        if isinstance(piece, Exception):
            raise piece
        if isinstance(piece, asyncio.Event):
            await piece.wait()
            continue
        await asyncio.sleep(0)
        num_tokens += 1
        held += piece
        if request.logprobs:
            held_logprobs.append(Logprob(piece, -0.5, list(piece.encode())))
        found = min((each for each in stops if each in held), key=held.index, default=None)
        if found is not None:
            if before := held.partition(found)[0]:
                yield Chunk(before, [], num_tokens)
            yield Chunk("", [], num_tokens, _usage(request, "stop", num_tokens, num_ctx, found), held_logprobs)
            return
        if any(_overlaps(held, each) for each in stops):
            yield Chunk(num_tokens=num_tokens)
            continue
        yield Chunk(held, held_logprobs, num_tokens)
        held, held_logprobs = "", []
    else:
        num_tokens += 1  # the one that ends the text
        reason = "stop" if request.num_predict < 0 or num_tokens <= request.num_predict else "length"
        yield Chunk(held, held_logprobs, num_tokens, _usage(request, reason, num_tokens, num_ctx))
        return
    yield Chunk(held, held_logprobs, num_tokens, _usage(request, "length", num_tokens, num_ctx))


def _overlaps(text: str, stop: str) -> bool:
    return any(text.endswith(stop[:length]) for length in range(1, len(stop)))


def _usage(request: CompletionRequest, reason: str, num_tokens: int, num_ctx: int, word: str = "") -> Usage:
    num_prompt = len(request.prompt)
    return Usage(
        done_reason="stop" if reason == "stop" else "length",
        prompt_eval_count=num_prompt,
        prompt_cached_count=0,
        prompt_eval_duration=1000,
        eval_count=num_tokens,
        eval_duration=2000,
        is_shifted=num_prompt + num_tokens > num_ctx,
        stopping_word=word,
    )
