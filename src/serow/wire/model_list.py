"""The models that there are, in OpenAI's shape and in Anthropic's (OAI-17, ANT-10)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serow.errors import RequestError

_MOST_LISTED = 1000
_USUALLY_LISTED = 20


@dataclass(frozen=True)
class Listed:
    """A model as both lists tell of it. `context_length` in tokens, 0: none."""

    id: str
    owner: str
    modified_at: datetime
    context_length: int
    capabilities: Sequence[str]


def openai_model(model: Listed) -> dict[str, Any]:
    """One model in OpenAI's shape, with what clients have to know beside it."""
    return {
        "id": model.id,
        "object": "model",
        "created": int(model.modified_at.timestamp()),
        "owned_by": model.owner,
        **({"context_length": model.context_length} if model.context_length else {}),
        "capabilities": list(model.capabilities),
    }


def openai_list(models: Sequence[Listed]) -> dict[str, Any]:
    """All models, the newest first."""
    return {"object": "list", "data": [openai_model(each) for each in models]}


def anthropic_model(model: Listed) -> dict[str, Any]:
    """One model in Anthropic's shape."""
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": model.modified_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "max_input_tokens": model.context_length,
        "lifecycle": "active",
    }


def anthropic_list(models: Sequence[Listed], limit: str = "", after_id: str = "", before_id: str = "") -> dict[str, Any]:
    """A page of the models, the newest first; raises RequestError for a limit that is none."""
    number = _limit(limit)
    page, rest = _page(models, after_id, before_id, number)
    return {
        "data": [anthropic_model(each) for each in page],
        "has_more": rest,
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }


def _limit(text: str) -> int:
    if not text:
        return _USUALLY_LISTED
    if not (re.fullmatch("[0-9]{1,9}", text) and 1 <= int(text) <= _MOST_LISTED):
        raise RequestError(f"limit must be between 1 and {_MOST_LISTED}", param="limit", code="invalid_value")
    return int(text)


def _page(models: Sequence[Listed], after_id: str, before_id: str, number: int) -> tuple[Sequence[Listed], bool]:
    """The models behind `after_id` or right before `before_id`, and whether there are more that way."""
    ids = [each.id for each in models]
    if before_id:
        end = ids.index(before_id) if before_id in ids else 0
        return models[max(0, end - number) : end], end > number
    begin = ids.index(after_id) + 1 if after_id in ids else 0
    return models[begin : begin + number], begin + number < len(models)
