"""A CompletionRequest as the body of POST /v1/completions, and what of a request has no place in it (REM-03, REM-04).

Source: vLLM 0.32 entrypoints/openai/completion/protocol.py and sampling_params.py; SGLang takes the same form. What is left
out would be filled from the repository's generation_config, so every sampler is always told.
"""

from collections.abc import Iterable
from typing import Any

from serow.engines.base import RANDOM_SEED, CompletionRequest
from serow.options import Options

UNUSED = (
    *("typical_p", "repeat_last_n", "num_keep", "mirostat", "mirostat_tau", "mirostat_eta", "min_keep", "deterministic"),
    *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "xtc_probability", "xtc_threshold"),
    *("num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict", "num_draft"),
)
_STARTED_WITH = ("main_gpu", "num_thread")
_LARGEST_BIAS = 100.0  # of a logit, either way
_INT64 = 2**63 - 1


def completion_body(request: CompletionRequest, model: str, num_ctx: int) -> dict[str, Any]:
    """The body, to be encoded as JSON; `num_ctx` tokens hold prompt and answer."""
    room = num_ctx - len(request.prompt)
    body: dict[str, Any] = {
        "model": model,
        "prompt": request.prompt,
        "max_tokens": room if request.num_predict < 0 else min(request.num_predict, room),
        "stream": True,
        "stream_options": {"include_usage": True},
        "skip_special_tokens": False,  # tags of thinking and calls are such
        "spaces_between_special_tokens": False,
        "return_token_ids": True,
        **_sampling(request.options),
    }
    if request.grammar:
        body["structured_outputs"] = {"grammar": request.grammar}
    if request.logprobs:
        body |= {"logprobs": request.top_logprobs, "return_tokens_as_token_ids": True}
    return body


def ignored(names: Iterable[str], *, is_ours: bool = False) -> list[str]:
    """Of these options, those that the engine has no place for; one that is ours to start takes some more."""
    return [name for name in names if name in UNUSED and not (is_ours and name in _STARTED_WITH)]


def _sampling(options: Options) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "temperature": max(0.0, options.temperature),
        "top_k": max(0, options.top_k),
        "top_p": min(1.0, options.top_p) if options.top_p > 0 else 1e-6,  # which leaves one token, as 0 does elsewhere
        "min_p": min(1.0, max(0.0, options.min_p)),
        "repetition_penalty": options.repeat_penalty,
        "presence_penalty": _within(options.presence_penalty, 2.0),
        "frequency_penalty": _within(options.frequency_penalty, 2.0),
        "stop": list(options.stop),
    }
    if options.seed != RANDOM_SEED:
        fields["seed"] = options.seed & _INT64
    if options.logit_bias:
        fields["logit_bias"] = {str(token): _within(bias, _LARGEST_BIAS) for token, bias in options.logit_bias}
    return fields


def _within(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))
