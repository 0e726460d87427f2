"""What llama.cpp answers to POST /completion: its events, and how they become Chunks."""

import msgspec
from msgspec import UNSET, Struct

from serow.engines.base import Chunk, Logprob, TokenLogprob, Usage
from serow.errors import EngineError

_LONGEST_EVENT = 16 << 20  # bytes; a picture's or a long token's event is far below
_NS = 1_000_000  # nanoseconds in a millisecond


class Candidate(Struct):
    """One of the most probable tokens at a position."""

    id: int
    token: str
    bytes: list[int]
    logprob: float


class Probability(Struct):
    """The sampled token. Its `token` and `bytes` are what it added to the text, which is not always its own text."""

    id: int
    token: str
    bytes: list[int]
    logprob: float
    top_logprobs: list[Candidate] = []


class Timings(Struct):
    """Milliseconds and counts of a completion."""

    cache_n: int | None = None
    prompt_n: int = 0  # of the prompt, read and not taken from the cache
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0
    draft_n: int = 0  # tokens that were guessed
    draft_n_accepted: int = 0


class Fault(Struct):
    """The engine's own error."""

    code: int = 500
    message: str = ""
    type: str = ""
    n_prompt_tokens: int = 0
    n_ctx: int = 0


class Progress(Struct):
    """How much of the prompt is read, of how much, and what of it was in the cache."""

    processed: int = 0
    total: int = 0
    cache: int = 0


class Event(Struct):
    """One server-sent event of a completion."""

    content: str = ""
    tokens: list[int] = []
    stop: bool = False
    tokens_predicted: int = 0
    tokens_evaluated: int = 0
    completion_probabilities: list[Probability] = []
    stop_type: str = ""
    stopped_limit: bool = False  # as ik_llama.cpp says it, also when the end of the text comes with the last token
    stopped_eos: bool = False
    stopping_word: str = ""
    truncated: bool = False
    timings: Timings | None = None
    prompt_progress: Progress | None = None
    error: Fault | None = None

    @property
    def is_limit(self) -> bool:
        """Whether the number of tokens ended it."""
        return self.stop_type == "limit" or (self.stopped_limit and not self.stopped_eos)


_decode = msgspec.json.Decoder(Event).decode


class EventReader:
    """Decodes a stream of server-sent events, wherever its pieces split."""

    def __init__(self) -> None:
        self._rest = b""
        self.progress: Progress | None = None  # the first that was told of the prompt

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes, those of a prompt's progress left out; raises EngineError for one without end."""
        *events, self._rest = (self._rest + piece).split(b"\n\n")
        if len(self._rest) > _LONGEST_EVENT:
            raise EngineError("the engine sent an event that is too long")
        found = []
        for data in events:
            if not data.startswith(b"data: "):
                continue
            event = _decode(data[6:])
            if event.prompt_progress is None:
                found.append(event)
            elif self.progress is None:
                self.progress = event.prompt_progress
        return found


class ChunkBuilder:
    """Turns the events of one completion into Chunks.

    A token whose text may be the beginning of a stop string comes with no content; its text follows with a later event, or
    never, when the stop string is complete. Its log-probability is held back with it. When the completion ends at its limit
    while text is held back, the engine forgets that text: `held` has the ids.

    A token that ends inside a UTF-8 character comes with no event at all. The record of the one that completes the character
    stands for all of them and holds all their bytes, so that the bytes of all records are the text's.
    """

    def __init__(self, *, top_logprobs: int, num_ctx: int, num_prompt: int | None = None) -> None:
        self._top = top_logprobs
        self._num_prompt = num_prompt  # tokens, None where the engine alone knows them
        self._num_ctx = num_ctx
        self._logprobs: list[Logprob] = []
        self._num_tokens = 0
        self.held: list[int] = []

    def lacks_text(self, event: Event) -> bool:
        """Whether the token's own text is not told: the event has none, or that of several, and the token is no likely one."""
        is_shared = not event.content or bool(self.held)
        return is_shared and any(_own(each) is None for each in event.completion_probabilities)

    def step(self, event: Event, text: str | None = None) -> Chunk:
        """The chunk of an event that is not the last; `text` is its token's own if the event lacks it."""
        is_whole = event.tokens_predicted == self._num_tokens + 1
        self._num_tokens = event.tokens_predicted
        self._logprobs += [_logprob(each, self._top, is_whole, text) for each in event.completion_probabilities]
        if not event.content:
            self.held += event.tokens
            return Chunk(num_tokens=event.tokens_predicted)
        logprobs = _cut(self._logprobs, len(event.content.encode())) if event.timings else self._logprobs
        self._logprobs, self.held = self._logprobs[len(logprobs) :], []
        return Chunk(event.content, logprobs, event.tokens_predicted)

    def finish(self, event: Event, held_text: str) -> Chunk:
        """The chunk of the last event; `held_text` is what an answer shows of `held` if the limit ended it."""
        told, withheld = (self._logprobs, []) if event.is_limit else ([], self._logprobs)
        return Chunk(held_text, told, event.tokens_predicted, self._usage(event), withheld)

    def _usage(self, event: Event) -> Usage:
        timings = event.timings or Timings()
        num_prompt = event.tokens_evaluated if self._num_prompt is None else self._num_prompt
        return Usage(
            done_reason="length" if event.is_limit else "stop",
            prompt_eval_count=num_prompt,
            prompt_cached_count=max(0, num_prompt - timings.prompt_n) if timings.cache_n is None else timings.cache_n,
            prompt_eval_duration=int(timings.prompt_ms * _NS),
            eval_count=event.tokens_predicted,
            eval_duration=int(timings.predicted_ms * _NS),
            is_shifted=event.truncated and num_prompt + event.tokens_predicted > self._num_ctx,
            stopping_word=event.stopping_word,
            draft_count=timings.draft_n,
            draft_accepted_count=timings.draft_n_accepted,
        )


def _own(sampled: Probability) -> Candidate | None:
    """The sampled token among the likeliest, which are told with their own texts."""
    return next((each for each in sampled.top_logprobs if each.id == sampled.id), None)


def _logprob(sampled: Probability, top: int, is_whole: bool, text: str | None) -> Logprob:
    """The record of a token; not `is_whole`: it ends a character of several."""
    alternatives = [TokenLogprob(each.token, each.logprob, each.bytes) for each in sampled.top_logprobs[:top]] if top else UNSET
    if text is not None:
        return Logprob(text, sampled.logprob, list(text.encode()), alternatives)
    own = (_own(sampled) if is_whole else None) or sampled
    return Logprob(own.token, sampled.logprob, own.bytes, alternatives)


def _cut(logprobs: list[Logprob], num_bytes: int) -> list[Logprob]:
    """The records of the text before a stop string, which has timings on its event: the first `num_bytes` bytes."""
    kept: list[Logprob] = []
    for logprob in logprobs:
        if num_bytes <= 0:
            break
        seen = bytes(logprob.bytes[:num_bytes])
        kept.append(msgspec.structs.replace(logprob, token=seen.decode(errors="ignore"), bytes=list(seen)))
        num_bytes -= len(seen)
    return kept
