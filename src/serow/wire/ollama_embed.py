"""Ollama's two embedding routes: /api/embed with its list of inputs, and the old /api/embeddings with one prompt."""

from dataclasses import replace
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from serow import bounds
from serow.duration import parse_keep_alive
from serow.errors import RequestError
from serow.inference.ask import Ask, Inputs, Nothing, Prompt
from serow.options import parse_options
from serow.wire.fold import Fold
from serow.wire.json import convert, decode_object


class _Request(Struct, frozen=True, kw_only=True):
    """What both routes take; `keep_alive` is read already."""

    model: str = ""
    keep_alive: float | None = None  # seconds
    options: dict[str, Any] = {}


class EmbedRequest(_Request, frozen=True, kw_only=True):
    """Body of POST /api/embed. `input` is a text or a list of texts; `normalize` false leaves vectors as they are pooled."""

    input: Any = None
    truncate: bool = True
    dimensions: int | None = None
    normalize: bool = True


class EmbeddingsRequest(_Request, frozen=True, kw_only=True):
    """Body of POST /api/embeddings."""

    prompt: str = ""


class EmbedResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of /api/embed's answer. Durations in ns, the count in tokens of all inputs; both absent after a load alone."""

    model: str
    embeddings: list[list[float]]
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET


class EmbeddingsResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of /api/embeddings' answer; an empty vector after a load alone."""

    embedding: list[float]
    warnings: list[str] | UnsetType = UNSET


_Kind = TypeVar("_Kind", bound=_Request)


def decode_embed(body: bytes) -> Ask:
    """Validate a body of POST /api/embed; raises RequestError that names the field."""
    request, ask = _decode(body, EmbedRequest)
    inputs = _inputs(request.input)
    prompt: Prompt = Inputs(inputs, request.dimensions, request.normalize) if inputs else Nothing("embed")
    return replace(ask, prompt=prompt, truncate=request.truncate)


def decode_embeddings(body: bytes) -> Ask:
    """Validate a body of POST /api/embeddings; raises RequestError that names the field."""
    request, ask = _decode(body, EmbeddingsRequest)
    if not request.model:
        raise RequestError("model is required")
    prompt: Prompt = Inputs([request.prompt], normalize=None) if request.prompt else Nothing("embed")
    return replace(ask, prompt=prompt, truncate=False)


def _decode(body: bytes, kind: type[_Kind]) -> tuple[_Kind, Ask]:
    known = {field.encode_name.lower(): field.encode_name for field in msgspec.structs.fields(kind)}
    raw = decode_object(body)
    fields = {known[key]: value for key, value in raw.items() if key in known}
    if "keep_alive" in fields:
        fields["keep_alive"] = parse_keep_alive(fields["keep_alive"])
    request = convert(fields, kind)
    options, unknown = parse_options(request.options)
    warnings = bounds.ignored("field", [key for key in raw if key not in known]) + bounds.ignored("option", unknown)
    ask = Ask(
        model=request.model,
        prompt=Nothing("embed"),
        stream=False,
        options=options,
        keep_alive=request.keep_alive,
        warnings=tuple(warnings),
    )
    return request, ask


def _inputs(value: Any) -> list[str]:
    """A text or a list of texts; no text at all is no input, but a "" in a list is one (EMB-01)."""
    if value is None or value == "":
        return []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RequestError("invalid input type")
    return texts


class EmbedWhole(Fold):
    """The events of one answer as the body of /api/embed's."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model  # as asked

    def value(self) -> EmbedResponse:
        """The vectors, and what they cost; nothing but an empty list after a load."""
        warnings = self.warnings or UNSET
        if self.vectors is None or self.done is None:
            return EmbedResponse(model=self._model, embeddings=[], warnings=warnings)
        return EmbedResponse(
            model=self._model,
            embeddings=self.vectors.embeddings,
            total_duration=self.done.total_duration,
            load_duration=self.done.load_duration,
            prompt_eval_count=self.usage.prompt_eval_count,
            warnings=warnings,
        )


class EmbeddingsWhole(Fold):
    """The events of one answer as the body of /api/embeddings'."""

    def value(self) -> EmbeddingsResponse:
        """The one vector, empty after a load."""
        vectors = self.vectors.embeddings if self.vectors else [[]]
        return EmbeddingsResponse(embedding=vectors[0], warnings=self.warnings or UNSET)
