"""What happens while an Ask is answered. A stream of a dialect is these events in its words; a whole answer is their fold.

The order: `Prompted` once the prompt is read, `Echo` where it is wanted; then `Delta`, `Step` and the events of tool calls;
`Done` last, always. An error is raised, not an event. A tool call is one `ToolCallStart`, any number of `ToolCallArguments`,
one `ToolCallEnd`; calls do not overlap. Made for each token: plain structs, nothing computed.
"""

from typing import Literal

from msgspec import Struct

from serow.engines.base import Logprob

DoneReason = Literal["stop", "length", "load", "unload"]


class Prompted(Struct, frozen=True, gc=False):
    """The prompt is read: its tokens, those that were cut off it, how long the model took to load (ns), what was cached."""

    prompt_eval_count: int
    truncated: int = 0
    load_duration: int = 0
    prompt_cached_count: int = 0


class Rendered(Struct, frozen=True):
    """The prompt's text, for `_debug_render_only`; nothing else follows."""

    text: str
    image_count: int = 0
    warnings: list[str] = []


class Echo(Struct, frozen=True):
    """The prompt read back, for `Raw.echo`. `logprobs` are those of `tokens`; None: nothing predicts the first one."""

    text: str
    tokens: list[str] = []
    logprobs: list[Logprob | None] = []


class Delta(Struct, frozen=True):
    """A piece of the answer or of the thinking, never both; or only log-probabilities of tokens without text yet."""

    text: str = ""
    thinking: str = ""
    logprobs: list[Logprob] = []


class ToolCallStart(Struct, frozen=True):
    """A call has begun and names a given tool. `index` counts from 0 through the answer; `id` is unique in it.

    A call that breaks off has no end: its text follows as a Delta, and its index is not used again.
    """

    index: int
    id: str
    name: str
    logprobs: list[Logprob] = []


class ToolCallArguments(Struct, frozen=True):
    """A piece of the arguments' JSON text."""

    index: int
    text: str
    logprobs: list[Logprob] = []


class ToolCallEnd(Struct, frozen=True):
    """The call is whole: `arguments` is the JSON text of an object, keys and numbers as the model wrote them."""

    index: int
    id: str
    name: str
    arguments: str
    logprobs: list[Logprob] = []


class Step(Struct, frozen=True, gc=False):
    """A step of the pictures, of all that are drawn; `preview` is a small JPEG of them where one was asked for."""

    completed: int
    total: int
    preview: bytes | None = None
    status: str = ""  # what is waited for before the first step


class Picture(Struct, frozen=True):
    """A finished picture: PNG bytes, and the seed that draws it again. Several come one after the other, before `Done`."""

    image: bytes
    seed: int | None = None


class Vectors(Struct, frozen=True):
    """One vector for each input, in order."""

    embeddings: list[list[float]]


class Usage(Struct, frozen=True, gc=False):
    """What the answer cost. Counts in tokens, durations in ns. `thinking_count`: how many of `eval_count` were thinking."""

    prompt_eval_count: int = 0
    prompt_cached_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    thinking_count: int = 0


class Done(Struct, frozen=True, kw_only=True):
    """The end of an answer. `stopping_word`: the stop string that ended it. `context` is for /api/generate only.

    `format_valid` is False where the text breaks its format or was cut before it could fit, else None.
    """

    reason: DoneReason
    usage: Usage = Usage()
    total_duration: int = 0
    load_duration: int = 0
    context: list[int] | None = None
    truncated: int = 0
    stopping_word: str = ""
    is_context_full: bool = False
    format_valid: bool | None = None
    warnings: list[str] = []


Event = Prompted | Rendered | Echo | Delta | ToolCallStart | ToolCallArguments | ToolCallEnd | Step | Picture | Vectors | Done
Chosen = tuple[int, Event]  # an event, and which of the choices that run together it belongs to
