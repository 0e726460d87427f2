"""A CompletionRequest as the body of llama.cpp's POST /completion; every number is held to what the engine can bear.

Source: llama.cpp's tools/server/server-schema.cpp (names and limits). Where its limit is soft we hold the value to it as the
engine would; where it refuses, or doesn't look (CVE-2026-21869), the number is held to its range here.
"""

import base64
from typing import Any

from serow.engines.base import LARGEST_SEED, RANDOM_SEED, CompletionRequest
from serow.engines.kinds import Feature, Kind
from serow.errors import FormatError, RequestError
from serow.options import Options

_INT32 = 2**31 - 1
_FLOAT32 = 3.4e38
_RANDOM = LARGEST_SEED + 1  # the engine's own word for it
_MOST_PROBS = 20

# The engine parses all text so far as a chat message at every token, of a plain completion too, and fails a finished answer
# that is not valid UTF-8. This is a parser, in its own notation, that takes nothing and is content.
_NO_CHAT_PARSER = '{"parsers": [{"type": "epsilon"}], "rules": {}, "root": 0}'

# of the last event; without the list it repeats the prompt and every setting
_RESPONSE_FIELDS = (
    "content", "tokens", "stop", "stop_type", "stopping_word", "tokens_predicted", "tokens_evaluated", "truncated", "timings",
)  # fmt: skip


def completion_body(request: CompletionRequest, num_ctx: int, kind: Kind) -> dict[str, Any]:
    """The body, to be encoded as JSON. `num_ctx` is the slot's context in tokens. Raises RequestError, FormatError."""
    return {
        "prompt": _prompt(request),
        "n_predict": _whole(request.num_predict, -1, _INT32) if kind.is_endless or request.num_predict >= 0 else _INT32,
        "stream": True,
        "return_tokens": True,
        "return_progress": True,  # while it reads the prompt, the engine notices a closed connection only by writing to it
        "cache_prompt": request.cache_prompt,
        "n_probs": _MOST_PROBS if request.logprobs else 0,  # a token's own text is told only among the likeliest
        "preserved_tokens": request.visible,
        "response_fields": _RESPONSE_FIELDS,
        "chat_parser": _NO_CHAT_PARSER,
        **_constraint(request, kind),
        **sampling_fields(request.options, num_ctx),
    }


def sampling_fields(options: Options, num_ctx: int) -> dict[str, Any]:
    """The engine's name and value of every option of a request; what is None is left to the engine."""
    if options.repeat_penalty <= 0:
        raise RequestError('option "repeat_penalty" must be greater than 0')
    fields = {
        "n_keep": _whole(options.num_keep, -1, _INT32),
        "seed": _seed(options.seed),
        "top_k": _whole(options.top_k, 0, _INT32),
        "top_p": _real(options.top_p, 0, 1),
        "min_p": _real(options.min_p, 0, 1),
        "typical_p": _real(options.typical_p, 0, 1),
        "temperature": _real(options.temperature, 0),
        "repeat_last_n": _last_n(options.repeat_last_n, num_ctx),
        "repeat_penalty": _real(options.repeat_penalty, 0),
        "presence_penalty": _real(options.presence_penalty),
        "frequency_penalty": _real(options.frequency_penalty),
        "stop": options.stop,
        "mirostat": _whole(options.mirostat, 0, 2),
        "mirostat_tau": _real(options.mirostat_tau),
        "mirostat_eta": _real(options.mirostat_eta),
        "dry_multiplier": _real(options.dry_multiplier),
        "dry_base": _real(options.dry_base),
        "dry_allowed_length": _whole(options.dry_allowed_length, 0, _INT32),
        "dry_penalty_last_n": _last_n(options.dry_penalty_last_n, num_ctx),
        "xtc_probability": _real(options.xtc_probability, 0, 1),
        "xtc_threshold": _real(options.xtc_threshold, 0, 1),
        "speculative.n_max": _whole(options.most_guessed, 0, _INT32),
        "min_keep": _whole(options.min_keep, 0, _INT32),
        "logit_bias": [[token, _real(bias)] for token, bias in options.logit_bias],  # without it ik keeps the last request's
    }
    return {name: value for name, value in fields.items() if value is not None}


def _prompt(request: CompletionRequest) -> Any:
    if not request.images:
        return request.prompt
    pictures = [base64.b64encode(image).decode("ascii") for image in request.images]
    return {"prompt_string": request.prompt, "multimodal_data": pictures}


def _constraint(request: CompletionRequest, kind: Kind) -> dict[str, Any]:
    """The field that binds the text. A llama-server without llguidance aborts when it meets a grammar of it."""
    if not request.grammar:
        return {}
    if Feature.LLGUIDANCE not in kind.lacks:
        return {"grammar": request.grammar}
    if request.gbnf:
        return {"grammar": request.gbnf}
    if request.json_schema is not None:
        return {"json_schema": request.json_schema}
    raise FormatError(f"the engine {kind.name} can't {Feature.LLGUIDANCE}", hint="the wheel can: set SEROW_ENGINE=wheel")


def _seed(seed: int) -> int:
    """32 bits of it; of a seed that is given never those that mean a random one."""
    return _RANDOM if seed == RANDOM_SEED else min(seed & _RANDOM, LARGEST_SEED)


def _whole(value: int | None, low: int, high: int) -> int | None:
    return None if value is None else max(low, min(high, value))


def _real(value: float | None, low: float = -_FLOAT32, high: float = _FLOAT32) -> float | None:
    return None if value is None else max(low, min(high, value))


def _last_n(value: int | None, num_ctx: int) -> int | None:
    """A number of latest tokens; negative is the whole context, which the engine itself refuses."""
    return None if value is None else num_ctx if value < 0 else min(value, num_ctx)
