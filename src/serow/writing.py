"""The flow of a request to a language model, once it has its place: prompt, token ids, chunks, records."""

import re
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from msgspec import UNSET

from serow.answer import Answer
from serow.api.codec import now
from serow.api.types import DebugInfo, GenerateRecord
from serow.completion import Completion, complete
from serow.errors import PromptTooLong
from serow.job import Job
from serow.prompt.render import render
from serow.prompt.truncation import truncate
from serow.runner.base import TextRunner, Usage
from serow.runner.llama_spec import whole_blocks

_MOST_CONTEXTS = 10  # num_predict -1 ends after as many times num_ctx, as in the peer
_UNTIL_FULL = -2  # num_predict: until the context is full
_PLACE = re.compile(r"\[img-([0-9]{1,4})\]")


@dataclass(frozen=True)
class Prompt:
    """The whole prompt's ids, and what of it the engine gets: ids cut to the context, or text when it holds pictures."""

    text: str
    tokens: list[int]
    engine: list[int] | str
    num_ctx: int  # tokens
    truncated: int = 0  # tokens
    images: Sequence[bytes] = ()  # in the order of their markers


async def write(job: Job, runner: TextRunner, load_duration: int) -> AsyncGenerator[GenerateRecord, None]:
    """Yield a record for each piece of the answer, then the final one; `load_duration` in ns.

    Raises RequestError before the first record; EngineError. Closing the iterator stops the engine's work.
    """
    prompt = await _prompt(job, runner)
    answer = Answer(job.request, job.tags, job.constraint, prompt.text)
    job.timeline.send(len(prompt.engine if isinstance(prompt.engine, list) else prompt.tokens))
    async with aclosing(complete(runner, _completion(job, prompt))) as chunks:
        async for chunk in chunks:
            job.timeline.sample(chunk.num_tokens)
            if chunk.usage:
                job.timeline.finish(chunk.usage)
                job.warnings.extend(_endless(job, prompt, chunk.usage))
            record = answer.feed(chunk)
            if record is not None:
                yield record
    context = None if job.request.raw else prompt.tokens + await runner.tokenize(answer.text, add_special=False)
    total_duration = time.perf_counter_ns() - job.started
    yield answer.final(total_duration, load_duration, context, prompt.truncated, job.warnings)


async def rendered(job: Job, runner: TextRunner) -> GenerateRecord:
    """The prompt as it would go to the model, for `_debug_render_only`."""
    text = await _before(job, runner) + await render(job.model, job.request, job.think, runner)
    info = DebugInfo(text, len(job.images) or UNSET)
    return GenerateRecord(model=job.request.model, created_at=now(), response="", done=False, debug_info=info)


async def _before(job: Job, runner: TextRunner) -> str:
    return await runner.detokenize(job.context) if job.context else ""


async def _prompt(job: Job, runner: TextRunner) -> Prompt:
    text = await render(job.model, job.request, job.think, runner)
    tokens = await _tokens(job.context, text, runner)
    num_ctx = _num_ctx(job.options.num_ctx, runner.num_ctx)
    if job.images:
        before = (await _before(job, runner)).replace(runner.media_marker, "")
        placed, images = _with_media(text, job.images, runner.media_marker)
        return Prompt(text, tokens, await _without_beginning(before + placed, runner), num_ctx, images=images)
    if len(tokens) >= num_ctx and not job.request.truncate:
        raise PromptTooLong(len(tokens), num_ctx)
    kept, truncated = truncate(tokens, num_ctx, job.options.num_keep, job.options.num_predict)
    if truncated:
        job.warnings.append(f"the prompt was cut by {truncated} of {len(tokens)} tokens to fit a context of {num_ctx}")
    return Prompt(text, tokens, kept, num_ctx, truncated)


async def _tokens(context: list[int], text: str, runner: TextRunner) -> list[int]:
    """The ids of the whole prompt; a beginning-of-text token that the text has already is not added once more (GEN-09)."""
    if context:
        return context + await runner.tokenize(text, add_special=False)
    tokens = await runner.tokenize(text, add_special=True)
    if tokens[:1] == tokens[1:2]:
        plain = await runner.tokenize(text, add_special=False)
        return plain if tokens[1:] == plain else tokens
    return tokens


async def _without_beginning(text: str, runner: TextRunner) -> str:
    """A prompt that the engine itself will tokenize, without the beginning-of-text token that it adds."""
    added, plain = await runner.tokenize("", add_special=True), await runner.tokenize("", add_special=False)
    beginning = await runner.detokenize(added[:1]) if added != plain else ""
    return text.removeprefix(beginning)


def _num_ctx(asked: int, loaded: int) -> int:
    """The context that holds for this request: what it asks for, rounded up as the engine does, within what is loaded."""
    return min(whole_blocks(asked), loaded) if asked else loaded


def _with_media(text: str, images: list[bytes], marker: str) -> tuple[str, list[bytes]]:
    """The engine's marker where `[img-N]` stands first, and the pictures in that order; a marker of the user's is taken out."""
    waiting, placed = dict(enumerate(images)), []

    def place(match: re.Match[str]) -> str:
        image = waiting.pop(int(match[1]), None)
        if image is None:
            return match[0]
        placed.append(image)
        return marker

    return _PLACE.sub(place, text.replace(marker, "")), placed


def _completion(job: Job, prompt: Prompt) -> Completion:
    return Completion(
        prompt=prompt.engine,
        options=job.options,
        num_predict=_num_predict(job, prompt),
        images=prompt.images,
        logprobs=job.request.logprobs,
        top_logprobs=job.request.top_logprobs,
        constraint=job.constraint,
        tags=job.tags,
        begun=job.tags.begun(prompt.text, raw=job.request.raw) if job.tags else None,
    )


def _num_predict(job: Job, prompt: Prompt) -> int:
    """Without shift an answer ends where the context does (GEN-16), and so does one under a grammar (GEN-12)."""
    asked = job.options.num_predict
    most = asked if asked >= 0 else _MOST_CONTEXTS * prompt.num_ctx
    if job.request.shift and job.constraint is None and asked != _UNTIL_FULL:
        return most
    room = max(0, prompt.num_ctx - len(prompt.engine if isinstance(prompt.engine, list) else prompt.tokens))
    return min(most, room)


def _endless(job: Job, prompt: Prompt, usage: Usage) -> Iterator[str]:
    """The warning of an answer that nobody bounded, and that went on until it was ended here."""
    if job.options.num_predict < 0 and usage.eval_count >= _MOST_CONTEXTS * prompt.num_ctx:
        yield f"the answer was ended after {usage.eval_count} tokens, ten times its context: num_predict sets another limit"
