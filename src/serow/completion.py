"""One or two runs of the engine for one answer: thinking runs free, the answer under its grammar (GEN-12, GEN-14).

With a grammar or a thinking budget the first run ends at the closing tag or the budget; the second goes on behind it, and
the engine's prompt cache makes that cheap.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import msgspec

from serow.constraints import Constraint
from serow.options import Options
from serow.output.thinking import ThinkingParser, ThinkingTags
from serow.prompt.truncation import truncate
from serow.runner.base import Chunk, CompletionRequest, TextRunner, Usage

_BEHIND_THINKING = "\n\n"


@dataclass(frozen=True)
class Completion:
    """What to complete and how; `begun`: what the prompt holds behind an opening tag, None when none is open."""

    prompt: list[int] | str
    options: Options
    num_predict: int
    images: Sequence[bytes] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    constraint: Constraint | None = None
    tags: ThinkingTags | None = None
    begun: str | None = None

    @property
    def think_budget(self) -> int | None:
        """Tokens that the thinking may take; None: as many as it likes, which a negative option says too."""
        budget = self.options.think_budget
        return None if budget is None or budget < 0 else budget

    def request(self) -> CompletionRequest:
        """As the engine takes it, in one run."""
        return CompletionRequest(
            prompt=self.prompt,
            options=self.options,
            num_predict=self.num_predict,
            images=self.images,
            grammar=self.constraint.grammar if self.constraint else "",
            gbnf=self.constraint.gbnf if self.constraint else "",
            json_schema=self.constraint.schema if self.constraint else None,
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs,
            cache_prompt=not self.options.deterministic,
            visible=self.tags.tokens if self.tags else (),
        )


async def complete(runner: TextRunner, completion: Completion) -> AsyncGenerator[Chunk, None]:
    """Yield the chunks of an answer, `usage` on the last one."""
    if completion.num_predict == 0:
        yield Chunk(usage=_nothing(completion))
        return
    is_bounded = completion.constraint is not None or completion.think_budget is not None
    run = _think_first(runner, completion) if completion.tags and is_bounded else runner.complete(completion.request())
    async with aclosing(run) as chunks:
        async for chunk in chunks:
            yield chunk


def _nothing(completion: Completion) -> Usage:
    return Usage("length", len(completion.prompt) if isinstance(completion.prompt, list) else 0, 0, 0, 0, 0, False)


async def _think_first(runner: TextRunner, completion: Completion) -> AsyncGenerator[Chunk, None]:
    thought, withheld = "", []
    usage: Usage | None = None
    async with aclosing(_thinking(runner, completion)) as chunks:
        async for chunk in chunks:
            thought += chunk.text
            usage, withheld = chunk.usage, chunk.withheld
            yield replace(chunk, usage=None)
    if usage is None:  # the model answers without thinking
        async with aclosing(runner.complete(completion.request())) as chunks:
            async for chunk in chunks:
                yield chunk
        return
    if not _goes_on(usage, completion):
        yield Chunk(num_tokens=usage.eval_count, usage=usage)
        return
    assert completion.tags is not None
    closing = completion.tags.closing + _BEHIND_THINKING
    yield Chunk(text=closing, logprobs=withheld, num_tokens=usage.eval_count)
    async with aclosing(runner.complete(await _behind(runner, completion, thought + closing, usage))) as chunks:
        async for chunk in chunks:
            yield replace(chunk, num_tokens=chunk.num_tokens + usage.eval_count, usage=chunk.usage and _sum(usage, chunk.usage))


async def _thinking(runner: TextRunner, completion: Completion) -> AsyncGenerator[Chunk, None]:
    """The thinking alone, up to its closing tag; nothing at all when the model starts with its answer."""
    assert completion.tags is not None
    scout = ThinkingParser(completion.tags, completion.begun)
    stop = (*completion.options.stop, completion.tags.closing)
    options = msgspec.structs.replace(completion.options, stop=stop)
    request = replace(completion, options=options, constraint=None, num_predict=_budget(completion)).request()
    held: list[Chunk] = []
    async with aclosing(runner.complete(request)) as chunks:
        async for chunk in chunks:
            _, answer = scout.feed(chunk.text)
            if answer:
                return
            held.append(chunk)
            if scout.is_thinking:
                for ready in held:
                    yield ready
                held.clear()


def _budget(completion: Completion) -> int:
    num_predict = completion.num_predict
    if completion.think_budget is None:
        return num_predict
    budget = max(1, completion.think_budget)
    return min(budget, num_predict) if num_predict >= 0 else budget


def _goes_on(usage: Usage, completion: Completion) -> bool:
    """Whether an answer follows: not behind the user's own stop string, nor when num_predict or the context is used up."""
    is_full = usage.done_reason == "length" and usage.eval_count != _budget(completion)
    if is_full or usage.stopping_word in completion.options.stop:
        return False
    return completion.num_predict < 0 or usage.eval_count < completion.num_predict


async def _behind(runner: TextRunner, completion: Completion, thought: str, usage: Usage) -> CompletionRequest:
    left = completion.num_predict - usage.eval_count if completion.num_predict >= 0 else -1
    if isinstance(completion.prompt, str):
        prompt: list[int] | str = completion.prompt + thought
    else:
        whole = completion.prompt + await runner.tokenize(thought, add_special=False)
        prompt, _ = truncate(whole, runner.num_ctx, completion.options.num_keep, left)  # it may have outgrown the context
    return replace(completion.request(), prompt=prompt, num_predict=left)


def _sum(first: Usage, second: Usage) -> Usage:
    """One usage of two runs: the prompt is the first one's."""
    return replace(
        second,
        prompt_eval_count=first.prompt_eval_count,
        prompt_cached_count=first.prompt_cached_count,
        prompt_eval_duration=first.prompt_eval_duration + second.prompt_eval_duration,
        eval_count=first.eval_count + second.eval_count,
        eval_duration=first.eval_duration + second.eval_duration,
        draft_count=first.draft_count + second.draft_count,
        draft_accepted_count=first.draft_accepted_count + second.draft_accepted_count,
        is_shifted=first.is_shifted or second.is_shifted,
    )
