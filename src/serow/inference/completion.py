"""The engine's runs for one answer, as events: thinking and text run free, a format and calls under their grammars.

One run is enough where nothing is held to a grammar. Else a run ends where something else holds for what follows (GEN-12,
GEN-14, TOOL-07), and the next goes on behind all that is written; the engine's prompt cache makes that cheap:

thinking   free, up to its closing tag, its budget, or the opening of a call
answer     under the format; or free, up to the opening of a call
call       held to one of the tools up to its last brace, then free again
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import Enum, auto

from serow.constraints import Constraint
from serow.engines.base import Chunk, CompletionRequest, Logprob, TextRunner, Usage
from serow.errors import EngineError
from serow.inference.calling import Calling
from serow.inference.events import Delta, Event, ToolCallEnd
from serow.inference.plan import Plan
from serow.inference.timeline import Timeline
from serow.output.format import Kind
from serow.output.parser import OutputParser
from serow.prompt.truncation import truncate

_BEHIND_THINKING = "\n\n"
_NOT_CALLED = "tool_choice asks for a call, and the model wrote none"


class _Kind(Enum):
    TEXT = auto()  # all of it is told as it comes
    THINKING = auto()  # told once it thinks; it ends where the model answers at once
    CALL = auto()  # it ends with the call
    CHOICE = auto()  # nothing is told; it ends with the first text


@dataclass(frozen=True)
class _Run:
    """One run of the engine; `then` finds the next when it is over."""

    request: CompletionRequest
    then: Callable[[], Awaitable["_Run | None"]]
    kind: _Kind = _Kind.TEXT


class Completion:
    """One answer as it grows: iterate over `events`, then ask for the rest."""

    def __init__(self, runner: TextRunner, plan: Plan, timeline: Timeline) -> None:
        self._runner = runner
        self._plan = plan
        self._timeline = timeline
        self._usage: Usage | None = None  # of the runs that are over
        self._earlier: Usage | None = None  # of these, without the last one
        self._num_tokens = 0  # of these
        self._withheld: list[Logprob] = []  # of the stop string that ended the last run
        self._held: list[Chunk] = []  # of a choice
        self._waiting: list[Event] = []  # made between runs
        self._parser = self._new_parser()
        self._written: list[str] = []  # all that the model wrote, tags included
        self._answered: list[str] = []  # what of it is the answer
        self.calls: list[ToolCallEnd] = []  # those that are whole
        self.thinking_count = 0  # tokens
        self.prompt_eval_count = 0  # as the engine counts, pictures included; 0 before it has begun, or where it does not say
        self.prompt_cached_count = 0

    @property
    def text(self) -> str:
        """All that the model wrote, tags included."""
        return "".join(self._written)

    @property
    def response(self) -> str:
        """What of it is the answer."""
        return "".join(self._answered)

    @property
    def usage(self) -> Usage:
        """What all runs cost; raises EngineError when the engine has not said it."""
        if self._usage is None:
            raise EngineError("the engine ended the answer without its last record")
        return self._usage

    @property
    def warnings(self) -> list[str]:
        """What is to be said of calls that are none, or are missing."""
        calling = self._plan.calling
        is_missing = calling is not None and calling.is_must and not self._parser.num_calls
        return [*self._parser.warnings, *([_NOT_CALLED] if is_missing else [])]

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield what the answer brings as it comes. Closing the iterator stops the engine's work."""
        if self._plan.num_predict == 0:
            self._usage = _nothing(self._plan)
            return
        run = self._think() if self._plan.thinks_apart else await self._answer()
        while run is not None:
            before, started = self._num_tokens, time.perf_counter_ns()
            self._earlier, self._held = self._usage, []
            async with aclosing(self._runner.complete(run.request)) as chunks:
                async for chunk in chunks:
                    self._take(chunk, run.kind, before)
                    if self._waiting and (run.kind is not _Kind.THINKING or self._parser.is_thinking):
                        for event in self._told():
                            yield event
                    if chunk.usage is None and self._is_enough(run.kind, chunk):
                        self._finish(self._usage_so_far(chunk, started), [])
                        break
            run = await run.then()
        is_cut = self._usage is not None and self._usage.done_reason == "length"
        self._tell(self._parser.finish(is_cut=is_cut))
        for event in self._told():
            yield event

    def _new_parser(self) -> OutputParser:
        plan = self._plan
        if plan.calling is None:
            return OutputParser(plan.tags, plan.begun)
        return OutputParser(plan.tags, plan.begun, plan.calling.format, plan.calling.tools)

    def _take(self, chunk: Chunk, kind: _Kind, before: int) -> None:
        """Read one chunk of a run, before which so many tokens were sampled."""
        self._timeline.sample(before + chunk.num_tokens)
        if chunk.prompt_eval_count and not self.prompt_eval_count:
            self.prompt_eval_count, self.prompt_cached_count = chunk.prompt_eval_count, chunk.prompt_cached_count
        if chunk.usage is not None:
            self._finish(chunk.usage, chunk.withheld)
        if kind is _Kind.CHOICE:
            self._held.append(chunk)
        else:
            self._read(chunk, before)

    def _is_enough(self, kind: _Kind, chunk: Chunk) -> bool:
        """Whether a run ends here: its kind says so, or it is behind the one call that is allowed."""
        match kind:
            case _Kind.TEXT if self._plan.calling is None:
                return False
            case _Kind.CHOICE:
                return bool(chunk.text.strip())
            case _Kind.THINKING if not self._parser.is_thinking and self._answered:
                return True
            case _Kind.CALL if self._parser.call is None and chunk.text.strip():
                return True
        return self._has_called

    @property
    def _has_called(self) -> bool:
        """Whether the one call is made that is allowed."""
        calling = self._plan.calling
        return calling is not None and not calling.choice.parallel and self._parser.num_calls > 0

    def _read(self, chunk: Chunk, before: int) -> None:
        parser = self._parser
        self._written.append(chunk.text)
        if parser.has_answered:  # nearly always
            self._tell(parser.feed(chunk.text, chunk.logprobs))
            return
        was_thinking = parser.is_thinking
        self._tell(parser.feed(chunk.text, chunk.logprobs))
        if was_thinking or parser.is_thinking:
            self.thinking_count = before + chunk.num_tokens

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is Delta and event.text:
                self._answered.append(event.text)
            elif type(event) is ToolCallEnd:
                self.calls.append(event)
        self._waiting += events

    def _told(self) -> list[Event]:
        waiting, self._waiting = self._waiting, []
        return waiting

    def _write(self, text: str, logprobs: list[Logprob] | None = None) -> None:
        """Text that the model did not write itself, or that the engine did not tell."""
        self._written.append(text)
        self._tell(self._parser.feed(text, logprobs))

    def _finish(self, usage: Usage, withheld: list[Logprob]) -> None:
        """A run is over."""
        self._withheld = withheld
        self._usage = usage if self._usage is None else _sum(self._usage, usage)
        self._num_tokens = self._usage.eval_count

    def _usage_so_far(self, chunk: Chunk, started: int) -> Usage:
        """What a run cost that was ended here."""
        count = self.prompt_eval_count or (len(self._plan.prompt) if isinstance(self._plan.prompt, list) else 0)
        duration = time.perf_counter_ns() - started
        return Usage("stop", count, self.prompt_cached_count, 0, chunk.num_tokens, duration, False)

    def _start_over(self) -> None:
        """What the last run read is no part of the answer."""
        self._usage, self._waiting = self._earlier, []
        self._num_tokens = self._usage.eval_count if self._usage else 0

    def _think(self) -> _Run:
        return _Run(self._plan.thinking_request(), self._behind_thinking, _Kind.THINKING)

    async def _behind_thinking(self) -> _Run | None:
        """A call; the answer; or all over again with the answer, where the model did not think."""
        plan, usage = self._plan, self.usage
        if opening := self._opening():
            return await self._behind(opening)
        if not self._parser.is_thinking:
            self._start_over()
            self._parser, self._written, self._answered = self._new_parser(), [], []
            return await self._answer()
        assert plan.tags is not None
        is_full = usage.done_reason == "length" and usage.eval_count != plan.num_think
        if is_full or usage.stopping_word in plan.options.stop or 0 <= plan.num_predict <= usage.eval_count:
            return None
        is_free = plan.constraint is None and not (plan.calling and plan.calling.is_must)
        goes_on = is_free and usage.stopping_word == plan.tags.closing  # the model writes the space behind it itself
        self._written.append(plan.tags.closing + ("" if goes_on else _BEHIND_THINKING))
        self._tell(self._parser.end_thinking(self._withheld))
        return await self._answer()

    async def _answer(self) -> _Run | None:
        """What follows the thinking: a call that is a must, an answer under its format, or free text."""
        plan, calling = self._plan, self._plan.calling
        if calling is not None and calling.is_must:
            return await self._must_call(calling)
        if plan.constraint is None:
            return await self._free()
        if calling is not None and calling.format.openings:
            return _Run(await self._next(None, calling.format.all_openings), self._chosen, _Kind.CHOICE)
        return _Run(await self._next(plan.constraint), self._end)

    async def _end(self) -> _Run | None:
        return None

    async def _free(self) -> _Run:
        """Text, in which calls may open."""
        calling = self._plan.calling
        return _Run(await self._next(None, calling.stops if calling else ()), self._behind_text)

    async def _behind_text(self) -> _Run | None:
        opening = self._opening()
        return await self._behind(opening) if opening else None

    async def _chosen(self) -> _Run | None:
        """What the model began with told whether it calls; anything else is sampled again, under the format."""
        if opening := self._opening():
            for chunk in self._held:
                self._read(chunk, self._earlier.eval_count if self._earlier else 0)
            return await self._behind(opening)
        self._start_over()
        return _Run(await self._next(self._plan.constraint), self._end)

    async def _behind(self, opening: str) -> _Run | None:
        """A call, at whose opening the last run has stopped."""
        calling = self._plan.calling
        assert calling is not None
        self._write(opening, self._withheld)
        if self._is_over():
            return None
        self._write(calling.rest_of(opening))
        return await self._call(calling)

    async def _must_call(self, calling: Calling) -> _Run:
        """A call whose opening is written here."""
        format = calling.format
        self._write(format.written)
        if format.kind in (Kind.OBJECT, Kind.NAMED) or not format.openings:
            return await self._call(calling)
        return _Run(await self._next(calling.names(len(self.calls))), self._begun)

    async def _begun(self) -> _Run | None:
        """The name of a call is written that runs free from there on."""
        if self._is_over():
            return None
        assert self._plan.calling is not None
        self._write(self._plan.calling.format.behind_name)
        return await self._free()

    async def _call(self, calling: Calling) -> _Run:
        """One call behind its opening; what can't be held runs free."""
        if calling.format.kind is Kind.OBJECT:
            return await self._held_to(await calling.object())
        if calling.format.kind is Kind.NAMED:
            start = len(self.text)
            return _Run(await self._next(calling.names(len(self.calls))), lambda: self._named(calling, start))
        return await self._free()

    async def _named(self, calling: Calling, start: int) -> _Run | None:
        """The name is written from `start` on: now the arguments."""
        if self._is_over():
            return None
        tool = calling.named(self.text[start:])
        self._write(calling.between)
        return await self._held_to(await calling.arguments(tool) if tool else None)

    async def _held_to(self, constraint: Constraint | None) -> _Run:
        if constraint is None:
            return await self._free()
        return _Run(await self._next(constraint), self._behind_call, _Kind.CALL)

    async def _behind_call(self) -> _Run | None:
        return None if self._is_over() else await self._free()

    def _opening(self) -> str:
        """The opening of a call at which the last run stopped, "" for none."""
        word, calling = self.usage.stopping_word, self._plan.calling
        is_ours = calling is not None and word in calling.format.all_openings and word not in self._plan.options.stop
        return word if is_ours and self.usage.done_reason == "stop" else ""

    def _is_over(self) -> bool:
        """Whether nothing follows: a limit, the client's own stop string, or the one call that is allowed."""
        usage = self.usage
        if self._has_called:
            return True
        if 0 <= self._plan.num_predict <= usage.eval_count:
            self._usage = replace(usage, done_reason="length")
            return True
        is_stopped = bool(usage.stopping_word) and usage.stopping_word in self._plan.options.stop
        return is_stopped or usage.done_reason == "length"

    async def _next(self, constraint: Constraint | None, stops: tuple[str, ...] = ()) -> CompletionRequest:
        """The request of a run behind all that is written."""
        plan, request = self._plan, self._plan.request(constraint, stops)
        if not self._written:
            return request
        left = plan.num_predict - self._num_tokens if plan.num_predict >= 0 else -1
        if isinstance(plan.prompt, str):
            return replace(request, prompt=plan.prompt + self.text, num_predict=left)
        whole = plan.prompt + await self._runner.tokenize(self.text, add_special=False)
        prompt, _ = truncate(whole, self._runner.num_ctx, plan.options.num_keep, left)  # it may have outgrown the context
        return replace(request, prompt=prompt, num_predict=left)


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
