"""Ollama's dialect: bodies become an Ask, Events become records. Durations on the wire are nanoseconds."""

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from serow import bounds
from serow.duration import parse_keep_alive
from serow.engines.base import Logprob
from serow.errors import RequestError
from serow.inference.ask import Ask, Insert, Nothing, Prompt, Raw, Single, ThinkLevel
from serow.inference.events import Delta, Done, Event, Picture, Rendered, Step, Usage
from serow.options import LARGEST_SIDE, MOST_STEPS, parse_options
from serow.wire.fold import Fold
from serow.wire.json import convert, decode_object, encode_line, now
from serow.wire.lines import Lines


class GenerateRequest(Struct, frozen=True, kw_only=True):
    """A body of POST /api/generate, of which `keep_alive` and `think` are read already."""

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
    images: list[str] | UnsetType = UNSET  # all of them where there are several, `image` first
    seed: int | UnsetType = UNSET  # draws `image` again; the others' are one higher each
    preview: str | UnsetType = UNSET  # a JPEG
    status: str | UnsetType = UNSET  # what a picture waits for
    completed: int | UnsetType = UNSET
    total: int | UnsetType = UNSET
    truncated: int | UnsetType = UNSET
    format_valid: bool | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = msgspec.field(default=UNSET, name="_debug_info")


_GENERATE_FIELDS = {field.encode_name.lower(): field for field in msgspec.structs.fields(GenerateRequest)}
_THINK_LEVELS = ("high", "medium", "low", "max")
_THINK_CHOICES = '"high", "medium", "low", "max", true, or false'


def decode_generate(body: bytes) -> Ask:
    """Validate a body of POST /api/generate; raises RequestError that names the field."""
    raw = decode_object(body)
    warnings = bounds.ignored("field", [key for key in raw if key not in _GENERATE_FIELDS])
    fields = {_GENERATE_FIELDS[key].encode_name: value for key, value in raw.items() if key in _GENERATE_FIELDS}
    if "keep_alive" in fields:
        fields["keep_alive"] = parse_keep_alive(fields["keep_alive"])
    if "think" in fields:
        fields["think"] = think_of(fields["think"])
    request = convert(fields, GenerateRequest)
    options, unknown = parse_options(request.options)
    warnings += bounds.ignored("option", unknown)
    check_top_logprobs(request.top_logprobs)
    return Ask(
        model=request.model,
        prompt=_generate_prompt(request),
        stream=request.stream,
        options=options | _sizes(request),
        keep_alive=request.keep_alive,
        format=request.format,
        think=request.think,
        truncate=request.truncate,
        shift=request.shift,
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
        render_only=request.debug_render_only,
        warnings=tuple(warnings),
        given=tuple(each.encode_name for each in _GENERATE_FIELDS.values() if getattr(request, each.name) != _default(each)),
    )


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default_factory() if field.default is msgspec.NODEFAULT else field.default


def _generate_prompt(request: GenerateRequest) -> Prompt:
    """What is to be answered; nothing loads or unloads the model (GEN-03)."""
    if request.raw and (request.template or request.system or request.context):
        raise RequestError("raw mode does not support template, system, or context")
    if not request.prompt and (request.raw or not request.suffix):
        return Nothing()
    if request.raw:
        return Raw(request.prompt, request.images)
    if request.suffix:
        return Insert(request.prompt, request.suffix, request.template)
    return Single(request.prompt, request.system, request.template, request.context, request.images)


def _sizes(request: GenerateRequest) -> dict[str, int]:
    """The fields of a picture, which lie over the options of the same names."""
    sizes: dict[str, int] = {}
    for name, value, largest in (
        ("width", request.width, LARGEST_SIDE),
        ("height", request.height, LARGEST_SIDE),
        ("steps", request.steps, MOST_STEPS),
    ):
        if value is not None and not 1 <= value <= largest:
            raise RequestError(f"{name} must be between 1 and {largest}")
        sizes |= {} if value is None else {name: value}
    return sizes


def think_of(value: Any) -> bool | str:
    """`think` of a request: whether to think, or how much; raises RequestError (GEN-14)."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise RequestError(f"think must be a boolean or string ({_THINK_CHOICES})")
    if value not in _THINK_LEVELS:
        raise RequestError(f'invalid think value: "{bounds.quoted(value)}" (must be {_THINK_CHOICES})')
    return value


def check_top_logprobs(number: int) -> None:
    """Raise RequestError for a number out of range (GEN-17)."""
    if not 0 <= number <= 20:
        raise RequestError("top_logprobs must be between 0 and 20")


class GenerateStream(Lines):
    """The events of one answer as lines of /api/generate."""

    def __init__(self, model: str) -> None:
        self._model = model  # as asked
        self._pictures: list[Picture] = []

    def feed(self, event: Event) -> bytes:
        """The line of an event, b"" for one that has none."""
        if type(event) is Delta:  # nearly always
            return encode_line(self._piece(event))
        match event:
            case Step(completed, total, preview, status):
                record = self._record(
                    completed=completed,
                    total=total or UNSET,
                    preview=_base64(preview) if preview else UNSET,
                    status=status or UNSET,
                )
            case Picture():
                self._pictures.append(event)
                return b""
            case Done():
                record = done_record(self._model, event, self._pictures)
            case Rendered():
                record = rendered_record(self._model, event)
            case _:
                return b""
        return encode_line(record)

    def _piece(self, event: Delta) -> GenerateRecord:
        return GenerateRecord(
            model=self._model,
            created_at=now(),
            response=event.text,
            thinking=event.thinking or UNSET,
            done=False,
            logprobs=event.logprobs or UNSET,
        )

    def _record(self, **fields: Any) -> GenerateRecord:
        return GenerateRecord(**{"model": self._model, "created_at": now(), "response": "", "done": False, **fields})


class GenerateWhole(Fold):
    """The events of one answer as the one record of /api/generate."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model  # as asked

    def value(self) -> GenerateRecord:
        """The record."""
        if self.rendered:
            return rendered_record(self._model, self.rendered)
        assert self.done is not None  # a flow that ends without it has raised
        record = done_record(self._model, self.done, self.pictures)
        return msgspec.structs.replace(
            record, response=self.text, thinking=self.thinking or UNSET, logprobs=self.logprobs or UNSET
        )


def rendered_record(model: str, event: Rendered) -> GenerateRecord:
    """The record that shows a prompt."""
    info = DebugInfo(event.text, event.image_count or UNSET)
    return GenerateRecord(
        model=model, created_at=now(), response="", done=False, debug_info=info, warnings=event.warnings or UNSET
    )


def done_record(model: str, event: Done, pictures: Sequence[Picture] = ()) -> GenerateRecord:
    """The last record: counts and durations of what was done, nothing of what was not."""
    return GenerateRecord(
        model=model,
        created_at=now(),
        response="",
        done=True,
        context=UNSET if event.context is None else event.context,
        **_picture_fields(pictures),
        **done_fields(event, has_text=not pictures),
    )


def _picture_fields(pictures: Sequence[Picture]) -> dict[str, Any]:
    """The pictures of an answer, and the seed of the first (PIC-06)."""
    if not pictures:
        return {}
    images = [_base64(each.image) for each in pictures]
    seed = pictures[0].seed
    return {
        "image": images[0],
        "images": images if len(images) > 1 else UNSET,
        "seed": UNSET if seed is None else seed,
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def done_fields(event: Done, *, has_text: bool = True) -> dict[str, Any]:
    """What both kinds of last records say; counts are those of a text, durations those of whatever has run."""
    usage, has_run = event.usage, event.reason in ("stop", "length")
    return {
        "done_reason": event.reason,
        "truncated": event.truncated or UNSET,
        "format_valid": UNSET if event.format_valid is None else event.format_valid,
        "warnings": event.warnings or UNSET,
        **({"total_duration": event.total_duration, "load_duration": event.load_duration} if has_run else {}),
        **(_counts(usage) if has_run and has_text else {}),
    }


def _counts(usage: Usage) -> dict[str, int]:
    return {
        "prompt_eval_count": usage.prompt_eval_count,
        "prompt_eval_duration": usage.prompt_eval_duration,
        "prompt_cached_count": usage.prompt_cached_count,
        "eval_count": usage.eval_count,
        "eval_duration": usage.eval_duration,
    }
