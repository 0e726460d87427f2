"""OpenAI's embeddings: texts or token ids become vectors, as numbers or as base64 of float32 (OAI-18, OAI-19)."""

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serow.inference.ask import Ask, Inputs
from serow.wire.fields import Fields
from serow.wire.fold import Fold
from serow.wire.openai_answer import warnings_body
from serow.wire.openai_completions import texts_or_ids
from serow.wire.sampling import keep_alive_of, own_options_of

_ENCODINGS = ("float", "base64")


@dataclass(frozen=True)
class EmbeddingRequest:
    """A validated body of POST /v1/embeddings."""

    ask: Ask
    is_base64: bool = False


def decode(body: bytes) -> EmbeddingRequest:
    """Validate a body; raises RequestError that names the field."""
    fields = Fields.of_body(body)
    encoding = fields.text("encoding_format", "float").lower()
    if encoding not in _ENCODINGS:
        text = f"Invalid value for 'encoding_format' = {fields.text('encoding_format')}"
        raise fields.fault("encoding_format", f"{text}: send float or base64")
    inputs = texts_or_ids(fields, "input")
    if not inputs:
        raise fields.fault("input", "invalid input", "missing_required_parameter")
    dimensions = fields.integer("dimensions", 0)
    model, options, keep_alive = fields.text("model"), own_options_of(fields), keep_alive_of(fields)
    fields.ignore(("user",))
    fields.warn_of_unread()
    ask = Ask(
        model=model,
        prompt=Inputs(inputs, dimensions),
        stream=False,
        options=options,
        keep_alive=keep_alive,
        truncate=False,
        warnings=tuple(fields.warnings),
    )
    return EmbeddingRequest(ask, encoding == "base64")


def whole(request: EmbeddingRequest, folds: Sequence[Fold]) -> dict[str, Any]:
    """The vectors in the order of the input."""
    (fold,) = folds
    vectors = fold.vectors.embeddings if fold.vectors else []
    read = fold.usage.prompt_eval_count
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "embedding": _base64(vector) if request.is_base64 else vector, "index": number}
            for number, vector in enumerate(vectors)
        ],
        "model": request.ask.model,
        "usage": {"prompt_tokens": read, "total_tokens": read},
        **warnings_body(request.ask, [fold]),
    }


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
