"""Types of the wire contract. Names are the wire's names; durations on the wire are nanoseconds."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

ThinkLevel = Literal["low", "medium", "high", "max"]
Capability = Literal["completion", "vision", "tools", "thinking", "insert", "image", "embedding"]


class LoadOptions(Struct, frozen=True, kw_only=True):
    """Options that a model is loaded with; a change of them (a smaller num_ctx aside) loads it anew (LIFE-03)."""

    num_ctx: int = 0  # tokens for each slot; 0 is the server's default
    num_batch: int = 512
    num_gpu: int = -1  # layers on the GPU; -1 as many as fit
    main_gpu: int = 0
    use_mmap: bool | None = None
    num_thread: int = 0  # 0 chooses by the machine


class Options(Struct, frozen=True, kw_only=True):
    """Every option of one request, the defaults filled in (GEN-06). None: the engine's own default."""

    num_ctx: int = 0
    num_batch: int = 512
    num_gpu: int = -1
    main_gpu: int = 0
    use_mmap: bool | None = None
    num_thread: int = 0
    num_keep: int = 4
    seed: int = -1
    num_predict: int = -1
    draft_num_predict: int | None = None
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    temperature: float = 0.8
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    # beyond Ollama's list, as the engine has them
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    min_keep: int | None = None
    logit_bias: tuple[tuple[int | str, float], ...] = ()
    # of pictures; a request's own width, height and steps lie over them
    width: int | None = None  # pixels
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str | None = None
    think_budget: int | None = None
    deterministic: bool = False

    @property
    def load_options(self) -> LoadOptions:
        """The part that a model is loaded with."""
        return LoadOptions(**{name: getattr(self, name) for name in LoadOptions.__struct_fields__})


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


class ModelDetails(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model is, in one line. `context_length` and `embedding_length` in /api/tags only."""

    parent_model: str
    format: str
    family: str
    families: list[str] | None
    parameter_size: str
    quantization_level: str
    context_length: int | UnsetType = UNSET
    embedding_length: int | UnsetType = UNSET


class TagsModel(Struct, frozen=True, kw_only=True):
    """A model of /api/tags. `size` in bytes."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: ModelDetails
    capabilities: list[str]


class PsModel(Struct, frozen=True, kw_only=True):
    """A loaded model of /api/ps. Sizes in bytes."""

    name: str
    model: str
    size: int
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: int
    context_length: int


class TensorInfo(Struct, frozen=True):
    """A tensor of a model file."""

    name: str
    type: str
    shape: list[int]


class ShowResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of /api/show."""

    license: str | UnsetType = UNSET
    modelfile: str
    parameters: str | UnsetType = UNSET
    template: str
    system: str | UnsetType = UNSET
    details: ModelDetails
    messages: list[dict[str, Any]] | UnsetType = UNSET
    model_info: dict[str, Any]
    projector_info: dict[str, Any] | UnsetType = UNSET
    tensors: list[TensorInfo] | UnsetType = UNSET
    capabilities: list[str]
    modified_at: str
