"""What the answers of OpenAI's dialects share: ids, reasons, counts, log-probabilities, errors (OAI-02, OAI-08, OAI-10)."""

import secrets
from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from serow.engines.base import Logprob
from serow.errors import SerowError
from serow.inference.ask import Ask
from serow.inference.events import Done
from serow.wire.fold import Fold

FINGERPRINT = "fp_ollama"
_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


def new_id(prefix: str) -> str:
    """An id that no other answer has."""
    return prefix + secrets.token_hex(12)


def error_body(error: SerowError, param: str = "") -> dict[str, Any]:
    """An error in OpenAI's shape; `param` names the field where the error itself does not."""
    return {
        "error": {
            "message": f"{error}",
            "type": _TYPES.get(error.status, "api_error"),
            "param": error.param or param or None,
            "code": error.code or None,
        }
    }


def finish_reason(done: Done | None, has_calls: bool) -> str:
    """Why it ended, in the three words that typed clients take: a call beats stop, not length."""
    if done is not None and done.reason == "length":
        return "length"
    return "tool_calls" if has_calls else "stop"


def usage_body(folds: Sequence[Fold], num_choices: int = 0) -> dict[str, Any]:
    """What an answer cost: each prompt is counted once, though `num_choices` (0: all) were written to it."""
    prompts = [fold.usage for fold in folds[:: num_choices or len(folds)]]
    usages = [fold.usage for fold in folds]
    read, written = sum(each.prompt_eval_count for each in prompts), sum(each.eval_count for each in usages)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": sum(each.prompt_cached_count for each in prompts)},
        "completion_tokens_details": {"reasoning_tokens": sum(each.thinking_count for each in usages)},
    }


def warnings_body(ask: Ask, folds: Sequence[Fold]) -> dict[str, Any]:
    """What was ignored or changed, each once; nothing where there is nothing to say."""
    said = list(dict.fromkeys([*ask.warnings, *(text for fold in folds for text in fold.warnings)]))
    return {"warnings": said} if said else {}


def logprobs_body(logprobs: Sequence[Logprob]) -> dict[str, Any]:
    """Log-probabilities as the SDKs' types want them."""
    return {"content": [_logprob(each) for each in logprobs], "refusal": None}


def _logprob(logprob: Logprob) -> dict[str, Any]:
    top = [] if logprob.top_logprobs is UNSET else logprob.top_logprobs
    return {
        "token": logprob.token,
        "logprob": logprob.logprob,
        "bytes": logprob.bytes,
        "top_logprobs": [{"token": each.token, "logprob": each.logprob, "bytes": each.bytes} for each in top],
    }
