"""What the rest of Serow knows of an engine: the Runner protocol and the values that cross it."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from msgspec import UNSET, Struct, UnsetType

from serow.devices.use import Use
from serow.engines.kinds import DEFAULT_FLAGS, WHEEL, Engine, FlagSet
from serow.engines.llamacpp.report import LoadReport
from serow.engines.llamacpp.spec import prompt_cache_size
from serow.options import LoadOptions, Options
from serow.store.model import Model

RANDOM_SEED = -1  # another one for every answer
LARGEST_SEED = 0xFFFF_FFFE  # of a text: llama.cpp takes 32 bits, and the last of these for "random"


class TokenLogprob(Struct, frozen=True, omit_defaults=True):
    """One alternative at a position: the token's text, its natural log-probability and its true bytes."""

    token: str
    logprob: float
    bytes: list[int]


class Logprob(Struct, frozen=True, omit_defaults=True):
    """The sampled token at a position, with its alternatives when asked for (GEN-17)."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TokenLogprob] | UnsetType = UNSET


@dataclass(frozen=True)
class LoadRequest:
    """A model and how to load it. `options.num_ctx` is resolved: tokens for each of `num_parallel` slots.

    With `embeds` it turns texts into vectors and completes none.
    """

    model: Model
    options: LoadOptions
    num_parallel: int
    engine: Engine = WHEEL
    flags: FlagSet = DEFAULT_FLAGS
    embeds: bool = False
    memory: int = 0  # bytes of main memory that are planned for all of it, 0 where nobody plans
    prompt_cache: int = field(default_factory=prompt_cache_size)  # bytes of these
    uses: tuple[Use, ...] = ()  # what devices are to hold
    num_layers: int = 0  # that devices could hold; 0 where the engine has none, or nobody plans


@dataclass(frozen=True)
class CompletionRequest:
    """One text to complete. `prompt` is token ids, or text with one media marker for each of `images`."""

    prompt: Sequence[int] | str
    options: Options
    num_predict: int  # -1: until the end
    images: Sequence[bytes] = ()  # PNG or JPEG bytes that we encoded ourselves
    grammar: str = ""  # for engines with llguidance; the same, where it can be said so, for those without:
    gbnf: str = ""
    json_schema: dict[str, Any] | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    cache_prompt: bool = True
    visible: Sequence[str] = ()  # control tokens whose text the answer shows, such as tags around thinking


@dataclass(frozen=True)
class Usage:
    """What a finished completion cost. Durations in nanoseconds, counts in tokens."""

    done_reason: Literal["stop", "length"]
    prompt_eval_count: int
    prompt_cached_count: int
    prompt_eval_duration: int
    eval_count: int
    eval_duration: int
    is_shifted: bool  # the context was full and its oldest half was dropped
    stopping_word: str = ""  # which of the stop strings ended it
    draft_count: int = 0  # tokens that the engine guessed
    draft_accepted_count: int = 0  # of these, how many were right


class Chunk(Struct, frozen=True):
    """One step of a completion; `usage` is set on the last one only, `withheld` there too. `num_tokens` sampled so far.

    The counts of the prompt stand in the first one, where the engine tells them by then; else they are 0.
    """

    text: str = ""
    logprobs: list[Logprob] = []
    num_tokens: int = 0
    usage: Usage | None = None
    withheld: list[Logprob] = []  # of the stop string, whose text is not sent
    prompt_eval_count: int = 0
    prompt_cached_count: int = 0


@dataclass(frozen=True)
class ImageRequest:
    """Pictures to draw of one description, one for each of `seeds`. None: the model's own default."""

    prompt: str
    seeds: tuple[int, ...] = (0,)
    width: int | None = None  # pixels
    height: int | None = None
    steps: int | None = None
    negative_prompt: str | None = None
    guidance: float | None = None
    images: tuple[bytes, ...] = ()  # PNG, to start from or to look at
    strength: float | None = None  # how far to leave the picture that it starts from, 0 to 1
    mask: bytes | None = None  # PNG: what is white is drawn anew
    preview: int = 0  # a preview after every so many steps; 0: none
    adapters: tuple[tuple[str, float], ...] = ()  # weights by the names of the model's adapters
    scheduler: str | None = None  # by its name in `picture_schedulers`


@dataclass(frozen=True)
class ImageChunk:
    """One step of the pictures; `images` (PNG bytes, in the order of the seeds) on the last one only."""

    completed: int
    total: int
    images: tuple[bytes, ...] = ()
    warnings: tuple[str, ...] = ()
    duration: int = 0  # ns spent drawing, on the last one
    preview: bytes | None = None  # a small JPEG of how far it is


class Runner(Protocol):
    """A loaded model in a process of its own.

    Its life: `load` once, then any number of requests at the same time, then `close`. After the process is gone every
    call raises EngineDied; `is_alive` says so beforehand. Cancelling a call stops the engine's work on it.
    """

    @property
    def is_alive(self) -> bool: ...
    @property
    def pid(self) -> int: ...
    @property
    def size(self) -> int:
        """Bytes of memory that the process holds."""
        ...

    @property
    def report(self) -> LoadReport:
        """What the engine said of the memory that it took; empty where it tells nothing."""
        ...

    async def load(self) -> None:
        """Start the process and wait until it answers; raises LoadError."""
        ...

    async def close(self) -> None:
        """End the process; returns when it is gone."""
        ...


class TextRunner(Runner, Protocol):
    """A Runner of a language model."""

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        """Yield chunks as they are sampled, the last with `usage`. `aclose` (contextlib.aclosing) stops the engine's work."""
        ...

    async def embed(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """One vector for each list of token ids, as the model pools them; only of a model loaded with `embeds`."""
        ...

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]: ...
    async def detokenize(self, tokens: Sequence[int]) -> str: ...
    async def apply_template(
        self,
        messages: Sequence[dict[str, Any]],
        template_kwargs: dict[str, Any],
        tools: Sequence[dict[str, Any]] = (),
        client: str = "",
    ) -> str: ...
    @property
    def num_ctx(self) -> int:
        """Tokens of context that each slot really has, which may differ from what was asked for."""
        ...

    @property
    def num_draft(self) -> int:
        """Tokens that it guesses at once; 0 where it never guesses."""
        ...

    @property
    def media_marker(self) -> str:
        """The text that stands for a picture in a prompt."""
        ...


class ImageRunner(Runner, Protocol):
    """A Runner of a text-to-image pipeline."""

    def draw(self, request: ImageRequest) -> AsyncGenerator[ImageChunk, None]: ...
