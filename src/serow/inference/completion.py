"""The engine's runs for one answer, as events: thinking runs free, the answer under its grammar (GEN-12, GEN-14).

With a grammar or a thinking budget the first run ends at the closing tag or the budget; the second goes on behind it, and
the engine's prompt cache makes that cheap.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import msgspec

from serow.constraints import Constraint
from serow.errors import EngineError
from serow.inference.events import Delta, Event
from serow.inference.timeline import Timeline
from serow.options import Options
from serow.output.thinking import ThinkingParser, ThinkingTags
from serow.prompt.truncation import truncate
from serow.runner.base import Chunk, CompletionRequest, Logprob, TextRunner, Usage

_BEHIND_THINKING = "\n\n"


@dataclass(frozen=True)
class Plan:
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

    @property
    def num_think(self) -> int:
        """Tokens of a run that thinks, -1 for no limit."""
        if self.think_budget is None:
            return self.num_predict
        budget = max(1, self.think_budget)
        return min(budget, self.num_predict) if self.num_predict >= 0 else budget

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

    def thinking_request(self) -> CompletionRequest:
        """The run that thinks: free, up to the closing tag."""
        assert self.tags is not None
        options = msgspec.structs.replace(self.options, stop=(*self.options.stop, self.tags.closing))
        return replace(self, options=options, constraint=None, num_predict=self.num_think).request()


class Completion:
    """One answer as it grows: iterate over `events`, then ask for the rest."""

    def __init__(self, runner: TextRunner, plan: Plan, timeline: Timeline) -> None:
        self._runner = runner
        self._plan = plan
        self._timeline = timeline
        self._usage: Usage | None = None  # of the runs that are over
        self._num_tokens = 0  # of these
        self._withheld: list[Logprob] = []  # of the stop string that ended the last run
        self._reader = self._new_reader()
        self.text = ""  # all that the model wrote, tags included
        self.response = ""  # what of it is the answer
        self.thinking_count = 0  # tokens
        self.prompt_eval_count = 0  # as the engine counts, pictures included; 0 before it has begun, or where it does not say
        self.prompt_cached_count = 0

    @property
    def usage(self) -> Usage:
        """What all runs cost; raises EngineError when the engine has not said it."""
        if self._usage is None:
            raise EngineError("the engine ended the answer without its last record")
        return self._usage

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield what the answer brings as it comes. Closing the iterator stops the engine's work."""
        plan = self._plan
        if plan.num_predict == 0:
            self._usage = _nothing(plan)
            return
        is_split = plan.tags is not None and (plan.constraint is not None or plan.think_budget is not None)
        runs = self._thinking_first() if is_split else self._run(plan.request())
        async with aclosing(runs) as events:
            async for event in events:
                yield event
        if self._reader is not None:
            for event in self._deltas(*self._reader.flush()):
                yield event

    def _new_reader(self) -> ThinkingParser | None:
        return ThinkingParser(self._plan.tags, self._plan.begun) if self._plan.tags else None

    async def _run(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """One run of the engine."""
        before = self._num_tokens
        async with aclosing(self._runner.complete(request)) as chunks:
            async for chunk in chunks:
                self._timeline.sample(before + chunk.num_tokens)
                if chunk.prompt_eval_count and not self.prompt_eval_count:
                    self.prompt_eval_count, self.prompt_cached_count = chunk.prompt_eval_count, chunk.prompt_cached_count
                self.text += chunk.text
                if chunk.usage is not None:
                    self._finish(chunk, chunk.usage)
                for event in self._read(chunk, before):
                    yield event

    def _read(self, chunk: Chunk, before: int) -> Iterator[Event]:
        reader = self._reader
        if reader is None:
            self.response += chunk.text
            if chunk.text or chunk.logprobs:
                yield Delta(chunk.text, "", chunk.logprobs)
            return
        was_thinking = reader.is_thinking
        yield from self._deltas(*reader.feed(chunk.text), chunk)
        if was_thinking or reader.is_thinking:
            self.thinking_count = before + chunk.num_tokens

    def _deltas(self, thinking: str, answer: str, chunk: Chunk | None = None) -> Iterator[Event]:
        """A piece each of thinking and answer; log-probabilities go with the first, or alone."""
        logprobs = chunk.logprobs if chunk else []
        self.response += answer
        if thinking:
            yield Delta("", thinking, logprobs)
            logprobs = []
        if answer or logprobs:
            yield Delta(answer, "", logprobs)

    def _finish(self, chunk: Chunk, usage: Usage) -> None:
        """A run is over."""
        self._withheld = chunk.withheld
        self._usage = usage if self._usage is None else _sum(self._usage, usage)
        self._num_tokens = self._usage.eval_count

    async def _thinking_first(self) -> AsyncGenerator[Event, None]:
        """Think in a run of its own; where the model answers at once, start over with the answer."""
        async with aclosing(self._thinking()) as events:
            async for event in events:
                yield event
        request: CompletionRequest | None = self._plan.request()
        if self._is_thinking:
            request = await self._behind_thinking()
            for event in self._close_thinking() if request else ():
                yield event
        else:
            self._start_over()
        if request is not None:
            async with aclosing(self._run(request)) as events:
                async for event in events:
                    yield event

    async def _thinking(self) -> AsyncGenerator[Event, None]:
        """The thinking alone, up to its closing tag; nothing at all when the model starts with its answer."""
        held: list[Event] = []
        async with aclosing(self._run(self._plan.thinking_request())) as events:
            async for event in events:
                held.append(event)
                if self._is_thinking:
                    for ready in held:
                        yield ready
                    held.clear()
                elif self.response:
                    return

    @property
    def _is_thinking(self) -> bool:
        return self._reader is not None and self._reader.is_thinking

    def _start_over(self) -> None:
        """What was read is no part of the answer."""
        self._usage, self._num_tokens = None, 0
        self._reader = self._new_reader()
        self.text, self.response = "", ""

    async def _behind_thinking(self) -> CompletionRequest | None:
        """The run behind the thinking; None behind the user's own stop string, or when nothing may follow any more."""
        plan, usage = self._plan, self.usage
        assert plan.tags is not None
        is_full = usage.done_reason == "length" and usage.eval_count != plan.num_think
        if is_full or usage.stopping_word in plan.options.stop or 0 <= plan.num_predict <= usage.eval_count:
            return None
        self.text += plan.tags.closing + _BEHIND_THINKING
        left = plan.num_predict - usage.eval_count if plan.num_predict >= 0 else -1
        if isinstance(plan.prompt, str):
            return replace(plan.request(), prompt=plan.prompt + self.text, num_predict=left)
        whole = plan.prompt + await self._runner.tokenize(self.text, add_special=False)
        prompt, _ = truncate(whole, self._runner.num_ctx, plan.options.num_keep, left)  # it may have outgrown the context
        return replace(plan.request(), prompt=prompt, num_predict=left)

    def _close_thinking(self) -> Iterator[Event]:
        assert self._reader is not None
        rest = self._reader.end_thinking()
        if rest or self._withheld:
            yield Delta("", rest, self._withheld)


def _nothing(plan: Plan) -> Usage:
    return Usage("length", len(plan.prompt) if isinstance(plan.prompt, list) else 0, 0, 0, 0, 0, False)


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
