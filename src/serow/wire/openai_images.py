"""OpenAI's pictures: a description, or a picture and what to make of it, becomes one or more pictures (IMG-01, IMG-02)."""

import base64
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from serow import bounds
from serow.errors import RequestError, SerowError
from serow.images import FORMATS
from serow.inference.ask import Ask, Picture
from serow.inference.events import Chosen, Done, Step
from serow.inference.events import Picture as Drawn
from serow.options import LARGEST_SIDE, MOST_STEPS
from serow.options import MOST_PICTURES as AT_ONCE
from serow.wire import server_sent
from serow.wire.fields import Fields
from serow.wire.fold import Fold
from serow.wire.multipart import FormPart, parse_form
from serow.wire.openai_answer import error_body, warnings_body
from serow.wire.openai_chat import choices_of
from serow.wire.sampling import keep_alive_of, option_of, own_options_of

OutputFormat = Literal["png", "jpeg", "webp"]

MOST_PICTURES = 10
MOST_PARTIAL = 3
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_NOT_USED = ("quality", "style", "background", "moderation", "input_fidelity")
_OWN = ("negative_prompt", "guidance", "strength")  # options that are fields, too: programs send them (PIC-09)
_NUMBERS = ("n", "seed", "output_compression", "partial_images", "steps")
_DECIMALS = ("guidance", "strength")
_FLAGS = ("stream",)
_FORMATS: dict[str, OutputFormat] = {"png": "png", "jpeg": "jpeg", "jpg": "jpeg", "webp": "webp"}


@dataclass(frozen=True)
class PictureRequest:
    """A validated body of POST /v1/images/generations or /v1/images/edits: one Ask a picture."""

    asks: tuple[Ask, ...]
    output_format: OutputFormat = "png"
    output_compression: int = 100
    size: str = "auto"
    is_edit: bool = False
    partial_images: int = 0  # of each picture, while it is drawn

    @property
    def ask(self) -> Ask:
        """The first picture's."""
        return self.asks[0]


def decode(body: bytes) -> PictureRequest:
    """Validate a body of /v1/images/generations; raises RequestError that names the field."""
    return _decode(Fields.of_body(body), is_edit=False)


def decode_edit(body: bytes, content_type: str) -> PictureRequest:
    """Validate a body of /v1/images/edits, JSON or a form; raises RequestError that names the field."""
    if content_type.lower().startswith("multipart/form-data"):
        return _decode(_of_form(parse_form(content_type, body)), is_edit=True)
    return _decode(Fields.of_body(body), is_edit=True)


def _of_form(parts: Sequence[FormPart]) -> Fields:
    """The fields of a form as those of a JSON body: files in base64, several of one name as a list."""
    found: dict[str, Any] = {}
    for part in parts:
        name = part.name.removesuffix("[]").lower()
        value = base64.b64encode(part.data).decode() if part.is_file else _form_value(name, part.data)
        if name == "image":
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return Fields(found)


def _form_value(name: str, data: bytes) -> Any:
    """A form knows texts only: what is to be a number or a boolean becomes one where it reads as such."""
    text = data.decode("utf-8", "replace").strip()
    if name in _FLAGS and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if name in _DECIMALS and re.fullmatch(r"[0-9]{1,18}(\.[0-9]{0,18})?", text):
        return float(text)
    return int(text) if name in _NUMBERS and re.fullmatch(r"-?[0-9]{1,18}", text) else text


def _decode(fields: Fields, *, is_edit: bool) -> PictureRequest:
    prompt, model = _required(fields, "prompt"), _required(fields, "model")
    images = _images(fields) if is_edit else ()
    width, height = _size(fields)
    options = _options(fields, is_edit=is_edit)
    number = fields.integer("n", 1, MOST_PICTURES) or 1
    output_format = _output_format(fields)
    compression = fields.integer("output_compression", 0, 100)
    picture = Picture(prompt, width, height, fields.integer("steps", 1, MOST_STEPS), images)
    stream, keep_alive = fields.flag("stream"), keep_alive_of(fields)
    partial_images = _partial_images(fields) if stream else 0
    if partial_images:
        options["preview"] = 1
    ask = Ask(
        model=model,
        prompt=picture,
        stream=stream,
        options=options,
        keep_alive=keep_alive,
        warnings=_warnings(fields),
    )
    size = f"{width}x{height}" if width else "auto"
    quality = 100 if compression is None else compression
    return PictureRequest(_asks(ask, number), output_format, quality, size, is_edit, partial_images)


def _options(fields: Fields, *, is_edit: bool) -> dict[str, Any]:
    """What is asked of the drawing: options of our own, the seed, and the mask of an edit."""
    options = own_options_of(fields)
    for name in _OWN:
        options |= option_of(fields, name)
    if (seed := fields.integer("seed")) is not None:
        options["seed"] = seed
    if mask := _mask(fields, is_edit=is_edit):
        options["mask"] = mask
    return options


def _asks(ask: Ask, number: int) -> tuple[Ask, ...]:
    """Asks for so many pictures: one for each that a stream tells of when it is finished, else as few as can be."""
    if ask.stream or number == 1:
        return choices_of(ask, number)
    options, seed = ask.options, ask.options.get("seed", -1)
    return tuple(
        replace(ask, options={**options, "n": min(AT_ONCE, number - begin), **({"seed": seed + begin} if seed >= 0 else {})})
        for begin in range(0, number, AT_ONCE)
    )


def _required(fields: Fields, name: str) -> str:
    text = fields.text(name)
    if not text:
        raise fields.fault(name, f"{name} is required", "missing_required_parameter")
    return text


def _size(fields: Fields) -> tuple[int | None, int | None]:
    text = fields.text("size", "auto").lower()
    if text == "auto":
        return None, None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise fields.fault("size", f'size "{text}" is not WIDTHxHEIGHT, such as 512x512, or auto')
    width, height = int(match[1]), int(match[2])
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise fields.fault("size", f"size must be between 1x1 and {LARGEST_SIDE}x{LARGEST_SIDE}")
    return width, height


def _output_format(fields: Fields) -> OutputFormat:
    if (kind := fields.text("response_format", "b64_json")) != "b64_json":
        raise fields.fault(
            "response_format", f'response_format "{bounds.quoted(kind)}" is not supported: pictures come as b64_json'
        )
    text = fields.text("output_format", "png").lower()
    if text not in _FORMATS:
        raise fields.fault("output_format", f'output_format "{text}" is not one of png, jpeg, webp')
    return _FORMATS[text]


def _images(fields: Fields) -> tuple[str, ...]:
    """The pictures to start from, as base64; never fetched."""
    value = fields.value("image")
    if value is None and fields.value("images") is None:
        raise fields.fault("image", "image is required", "missing_required_parameter")
    given = [value] if isinstance(value, str) else [_url(each) for each in (value or fields.items("images"))]
    return tuple(_picture(each, "image") for each in given)


def _mask(fields: Fields, *, is_edit: bool) -> str | None:
    """What is to be drawn anew, as base64: what is transparent in it, or white where nothing is."""
    value = fields.value("mask")
    if value is None:
        return None
    if not is_edit:
        raise fields.fault("mask", "a mask needs the picture that it belongs to: send both to /v1/images/edits")
    return _picture(_url(value), "mask")


def _picture(value: Any, name: str) -> str:
    """A picture as base64 or a data URI."""
    if isinstance(value, str) and value and not value.lstrip().lower().startswith(("http://", "https://", "file:")):
        return value
    text = f"invalid {name}: send {', '.join(FORMATS)} as base64 or a data URI; URLs are never fetched"
    raise RequestError(text, param=name, code="invalid_value")


def _partial_images(fields: Fields) -> int:
    return fields.integer("partial_images", 0, MOST_PARTIAL) or 0


def _url(item: Any) -> Any:
    """The picture of an item, which may be an object with `image_url`."""
    return item.get("image_url") if isinstance(item, dict) else item


def _warnings(fields: Fields) -> tuple[str, ...]:
    for name in _NOT_USED:
        if fields.value(name) not in (None, "auto"):
            fields.warnings.append(f'"{name}" was ignored: models here have no such setting')
    if _partial_images(fields) and not fields.flag("stream"):
        fields.warnings.append('"partial_images" was ignored: they come in streams only')
    fields.ignore(("user", "response_format"))
    fields.warn_of_unread()
    return tuple(fields.warnings)


def whole(request: PictureRequest, folds: Sequence[Fold]) -> dict[str, Any]:
    """The answer of a request that does not stream; its pictures are encoded as asked."""
    pictures = [each.image for fold in folds for each in fold.pictures]
    return {
        "created": int(time.time()),
        "data": [{"b64_json": base64.b64encode(each).decode()} for each in pictures],
        "output_format": request.output_format,
        "size": request.size,
        "usage": _usage(folds),
        **warnings_body(request.ask, folds),
    }


def _usage(folds: Sequence[Fold]) -> dict[str, Any]:
    """Tokens of the description; a picture has none."""
    read = folds[0].usage.prompt_eval_count
    details = {"text_tokens": read, "image_tokens": 0}
    return {"input_tokens": read, "input_tokens_details": details, "output_tokens": 0, "total_tokens": read}


class PictureStream:
    """Events of pictures while they are drawn: how far each is, as often as was asked for, and each when it is finished."""

    content_type = server_sent.CONTENT_TYPE
    has_pings = True

    def __init__(self, request: PictureRequest) -> None:
        self._request = request
        self._kind = "image_edit" if request.is_edit else "image_generation"
        self._created = int(time.time())
        self._folds = [Fold() for _ in request.asks]
        self._num_partial = [0 for _ in request.asks]

    def feed(self, chosen: Chosen) -> bytes:
        """The event of an event."""
        choice, event = chosen
        match event:
            case Step(preview=bytes(preview)) if self._is_due(choice, event):
                index = self._num_partial[choice]
                self._num_partial[choice] += 1
                return self._event("partial_image", preview, "jpeg", partial_image_index=index)
            case Drawn() | Done():
                self._folds[choice].add(event)
                return self._completed(choice) if isinstance(event, Done) else b""
        return b""

    def _is_due(self, choice: int, step: Step) -> bool:
        """Whether it is time for the next: they divide the steps evenly, and the last step brings the picture itself."""
        number, most = self._num_partial[choice], self._request.partial_images
        return number < most and step.completed < step.total and step.completed * (most + 1) >= step.total * (number + 1)

    def _completed(self, choice: int) -> bytes:
        fold = self._folds[choice]
        fields = {"usage": _usage([fold]), **warnings_body(self._request.ask, [fold])}
        return b"".join(self._event("completed", each.image, self._request.output_format, **fields) for each in fold.pictures)

    def _event(self, name: str, image: bytes, output_format: str, **fields: Any) -> bytes:
        return server_sent.named(
            {
                "type": f"{self._kind}.{name}",
                "b64_json": base64.b64encode(image).decode(),
                "created_at": self._created,
                "size": self._request.size,
                "quality": "auto",
                "background": "auto",
                "output_format": output_format,
                **fields,
            }
        )

    def finish(self) -> bytes:
        """Nothing: the last picture is the end."""
        return b""

    def fail(self, error: SerowError) -> bytes:
        """The error, as the SDKs raise it; nothing follows."""
        return server_sent.data(error_body(error))

    def ping(self) -> bytes:
        """A comment."""
        return server_sent.COMMENT
