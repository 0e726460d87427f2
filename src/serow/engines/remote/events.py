"""What POST /v1/completions answers: its events, and how they become Chunks.

Source: vLLM 0.32 entrypoints/openai/completion/protocol.py. SGLang tells no token ids: its events count as one token each
until the usage at the end.
"""

import re
from collections.abc import Callable, Iterator
from time import perf_counter_ns

import msgspec
from msgspec import UNSET, Struct

from serow.engines.base import Chunk, CompletionRequest, Logprob, TokenLogprob, Usage
from serow.errors import EngineError

LONGEST_EVENT = 1 << 20  # bytes
_MOST_DIGITS = 10
_TOKEN_ID = "token_id:"  # before an id that stands for a token's text


class Probabilities(Struct):
    """Of the tokens of one event, each named by its id."""

    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None


class Choice(Struct):
    """What one event adds to the text."""

    text: str = ""
    token_ids: list[int] | None = None
    logprobs: Probabilities | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None  # the stop string, or the id of a stop token; None for the end of the text


class PromptDetails(Struct):
    """Told where the engine runs with --enable-prompt-tokens-details."""

    cached_tokens: int | None = None


class Counts(Struct):
    """Tokens."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None


class Fault(Struct):
    """The engine's own error."""

    message: str = ""
    code: int | str | None = None


class Event(Struct):
    """One server-sent event."""

    choices: list[Choice] = []
    usage: Counts | None = None
    error: Fault | None = None


_decode = msgspec.json.Decoder(Event).decode


class EventReader:
    """Decodes a stream of server-sent events, wherever its pieces split."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of a line whose end has not come
        self._size = 0
        self.is_done = False  # the engine has said all; what comes after it counts for nothing

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes. Raises EngineError for what is no event, or has no end."""
        first, *others = piece.split(b"\n")
        self._add(first)
        if not others:
            return []
        lines = [b"".join(self._pieces), *others[:-1]]
        self._pieces, self._size = [], 0
        self._add(others[-1])
        if any(len(line) > LONGEST_EVENT for line in lines):
            raise _too_long()
        return list(self._events(lines))

    def _add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > LONGEST_EVENT:
            raise _too_long()

    def _events(self, lines: list[bytes]) -> Iterator[Event]:
        for line in lines:
            data = line[5:].strip() if line.startswith(b"data:") else b""
            if data == b"[DONE]":
                self.is_done = True
                return
            if data:
                yield _event(data)


def _too_long() -> EngineError:
    return EngineError("the engine sent an event that is too long")


def _event(data: bytes) -> Event:
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise EngineError("the engine sent something that is not an answer") from None


class ChunkBuilder:
    """Turns the events of one completion into Chunks.

    The engine shows control tokens; those that the request does not ask for are taken out here. It holds text back that may
    begin a stop string; log-probabilities wait here until the text is there that they belong to.
    """

    def __init__(
        self,
        request: CompletionRequest,
        bytes_of: Callable[[int], bytes],
        control_tokens: frozenset[int],
        hidden: re.Pattern[str] | None,
    ) -> None:
        self._request = request
        self._bytes_of = bytes_of
        self._control_tokens = control_tokens
        self._hidden = hidden
        self._logprobs: list[Logprob] = []
        self._num_tokens = 0
        self._num_owed = 0  # bytes of text that was told and whose log-probabilities were not
        self._counts = Counts()
        self._last: Choice | None = None
        self._started = perf_counter_ns()
        self._first_at = 0

    @property
    def is_finished(self) -> bool:
        """Whether the engine told how the text ended."""
        return self._last is not None

    def step(self, event: Event) -> Chunk | None:
        """What an event adds, None for nothing."""
        if event.usage is not None:
            self._counts = event.usage
        if not event.choices or self._last is not None:  # a text goes on behind its end nowhere
            return None
        choice = event.choices[0]
        chunk = self._add(choice)
        if choice.finish_reason is not None:
            self._last = choice
        return chunk

    @property
    def num_tokens(self) -> int:
        """How many the engine has sent."""
        return self._num_tokens

    def _add(self, choice: Choice) -> Chunk:
        self._first_at = self._first_at or perf_counter_ns()
        tokens = choice.token_ids
        self._num_tokens += len(tokens) if tokens is not None else bool(choice.text)
        text = choice.text
        if self._hidden and (tokens is None or not self._control_tokens.isdisjoint(tokens)):
            text = self._hidden.sub("", text)
        if choice.logprobs is not None:
            self._logprobs += self._records(choice.logprobs)
        self._num_owed += len(text.encode())
        return Chunk(text, self._covered(), self._num_tokens)

    def finish(self) -> Chunk:
        """The chunk that ends the answer."""
        last = self._last or Choice()
        is_cut = last.finish_reason == "length"
        told, withheld = (self._logprobs, []) if is_cut else ([], self._logprobs)
        return Chunk("", told, self._num_tokens, self._usage(last, is_cut=is_cut), withheld)

    def _usage(self, last: Choice, *, is_cut: bool) -> Usage:
        now, counts = perf_counter_ns(), self._counts
        first_at = self._first_at or now
        details = counts.prompt_tokens_details
        return Usage(
            done_reason="length" if is_cut else "stop",
            prompt_eval_count=counts.prompt_tokens or len(self._request.prompt),
            prompt_cached_count=(details.cached_tokens if details else None) or 0,
            prompt_eval_duration=first_at - self._started,  # as seen from here: the engine tells no durations
            eval_count=self._num_tokens if counts.completion_tokens is None else counts.completion_tokens,
            eval_duration=now - first_at,
            is_shifted=False,
            stopping_word=last.stop_reason if isinstance(last.stop_reason, str) else "",
        )

    def _covered(self) -> list[Logprob]:
        """The records whose whole text was told."""
        number = 0
        while number < len(self._logprobs) and len(self._logprobs[number].bytes) <= self._num_owed:
            self._num_owed -= len(self._logprobs[number].bytes)
            number += 1
        told, self._logprobs = self._logprobs[:number], self._logprobs[number:]
        return told

    def _records(self, found: Probabilities) -> list[Logprob]:
        tops = found.top_logprobs or [None] * len(found.tokens)
        return [
            self._record(token, logprob or 0.0, top or {})
            for token, logprob, top in zip(found.tokens, found.token_logprobs, tops, strict=False)
            if not (self._hidden and self._hidden.fullmatch(_shown(self._bytes(token))))
        ]

    def _record(self, token: str, logprob: float, top: dict[str, float]) -> Logprob:
        own = self._bytes(token)
        best = sorted(top.items(), key=lambda each: -each[1])[: self._request.top_logprobs]
        alternatives = [TokenLogprob(_shown(data := self._bytes(name)), value, list(data)) for name, value in best]
        return Logprob(_shown(own), logprob, list(own), alternatives if self._request.top_logprobs else UNSET)

    def _bytes(self, token: str) -> bytes:
        number = token.removeprefix(_TOKEN_ID)
        is_id = number != token and len(number) <= _MOST_DIGITS and number.isdecimal()
        return self._bytes_of(int(number)) if is_id else token.encode()


def _shown(data: bytes) -> str:
    return data.decode("utf-8", "replace")
