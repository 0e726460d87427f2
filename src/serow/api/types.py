"""Types of the wire contract. Names are the wire's names; durations on the wire are nanoseconds."""

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from serow.inference.ask import ThinkLevel
from serow.runner.base import Logprob


class GenerateRequest(Struct, frozen=True, kw_only=True):
    """A validated body of POST /api/generate. `options` holds what the request gave, not the defaults."""

    model: str = ""
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] = []
    stream: bool = True
    raw: bool = False
    format: Any = None
    images: list[str] = []
    options: dict[str, Any] = {}
    keep_alive: float | None = None  # seconds, math.inf for ever, None: not given
    think: bool | ThinkLevel | None = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    debug_render_only: bool = msgspec.field(default=False, name="_debug_render_only")
    warnings: tuple[str, ...] = ()  # filled while decoding: what was understood as "ignored"

    @property
    def is_insert(self) -> bool:
        """Whether the middle is to be filled in; a raw prompt goes to the model as it is."""
        return bool(self.suffix) and not self.raw


class DebugInfo(Struct, frozen=True, omit_defaults=True):
    """The prompt as rendered, for `_debug_render_only`."""

    rendered_template: str
    image_count: int | UnsetType = UNSET


class GenerateRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record of an answer: a streamed piece, a progress record of a picture, or the final one (RES-01, RES-02)."""

    model: str
    created_at: str
    response: str
    thinking: str | UnsetType = UNSET
    done: bool
    done_reason: str | UnsetType = UNSET
    context: list[int] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    prompt_cached_count: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    logprobs: list[Logprob] | UnsetType = UNSET
    image: str | UnsetType = UNSET
    completed: int | UnsetType = UNSET
    total: int | UnsetType = UNSET
    truncated: int | UnsetType = UNSET
    format_valid: bool | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = msgspec.field(default=UNSET, name="_debug_info")
