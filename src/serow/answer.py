"""The engine's chunks become records of the answer (RES-01, RES-02)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from msgspec import UNSET

from serow.api.codec import now
from serow.api.types import GenerateRecord, GenerateRequest
from serow.constraints import Constraint
from serow.errors import EngineError
from serow.output.thinking import ThinkingParser, ThinkingTags
from serow.runner.base import Chunk, Logprob, Usage

SHIFTED = "the context was full: its oldest half was dropped while generating"


class Answer:
    """One answer as it grows: `feed` chunks, then `final`."""

    def __init__(self, request: GenerateRequest, tags: ThinkingTags | None, constraint: Constraint | None, prompt: str) -> None:
        self.text = ""  # everything the model wrote, tags included
        self._response = ""
        self._model = request.model
        self._constraint = constraint
        self._parser = ThinkingParser(tags, tags.begun(prompt, raw=request.raw)) if tags else None
        self._usage: Usage | None = None

    def feed(self, chunk: Chunk) -> GenerateRecord | None:
        """The record that this chunk makes, None when it adds neither text nor log-probabilities."""
        self.text += chunk.text
        self._usage = chunk.usage or self._usage
        thinking, response = self._parser.feed(chunk.text) if self._parser else ("", chunk.text)
        if chunk.usage and self._parser:
            thinking, response = (a + b for a, b in zip((thinking, response), self._parser.flush(), strict=True))
        self._response += response
        if not (thinking or response or chunk.logprobs):
            return None
        return GenerateRecord(
            model=self._model,
            created_at=now(),
            response=response,
            thinking=thinking or UNSET,
            done=False,
            logprobs=chunk.logprobs or UNSET,
        )

    def final(
        self, total_duration: int, load_duration: int, context: list[int] | None, truncated: int, warnings: list[str]
    ) -> GenerateRecord:
        """The last record; durations in ns, `truncated` in tokens."""
        usage = self._usage
        if usage is None:
            raise EngineError("the engine ended the answer without its last record")
        said = [*warnings, SHIFTED] if usage.is_shifted else warnings
        return GenerateRecord(
            model=self._model,
            created_at=now(),
            response="",
            done=True,
            done_reason=usage.done_reason,
            context=UNSET if context is None else context,
            total_duration=total_duration,
            load_duration=load_duration,
            prompt_eval_count=usage.prompt_eval_count,
            prompt_eval_duration=usage.prompt_eval_duration,
            prompt_cached_count=usage.prompt_cached_count,
            eval_count=usage.eval_count,
            eval_duration=usage.eval_duration,
            truncated=truncated or UNSET,
            format_valid=False if self._fails_format() else UNSET,
            warnings=said or UNSET,
        )

    def _fails_format(self) -> bool:
        """Whether a finished text breaks its format; a cut one is not judged, its done_reason says enough."""
        is_finished = self._usage is not None and self._usage.done_reason == "stop"
        return is_finished and self._constraint is not None and not self._constraint.validate(self._response)


async def joined(records: AsyncGenerator[GenerateRecord, None]) -> GenerateRecord:
    """All records of an answer as the one that a request without streaming gets."""
    response, thinking = "", ""
    logprobs: list[Logprob] = []
    async with aclosing(records) as each:
        async for record in each:
            response += record.response
            thinking += record.thinking or ""
            logprobs += record.logprobs or []
    return msgspec.structs.replace(record, response=response, thinking=thinking or UNSET, logprobs=logprobs or UNSET)
