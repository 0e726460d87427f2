"""`options` of a request and PARAMETER lines of a Modelfile: names, types, layers (GEN-06)."""

import math
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from serow.api.types import Options
from serow.errors import RequestError

_INT64 = 2**63 - 1
SMALLEST_NUM_CTX = 16
LARGEST_SIDE = 4096  # pixels of a drawn picture
MOST_STEPS = 1000


def _fault(name: str, expected: str) -> RequestError:
    return RequestError(f'option "{name}" must be {expected}')


def _number(name: str, value: Any, kind: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _fault(name, f"of type {kind}")
    return value


def _integer(name: str, value: Any) -> int:
    """Any JSON number, truncated and held to 64 bits; never a string or boolean."""
    return max(-_INT64 - 1, min(_INT64, int(_number(name, value, "integer"))))


def _float(name: str, value: Any) -> float:
    return float(_number(name, value, "float32"))


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _fault(name, "of type boolean")
    return value


def _stop(name: str, value: Any) -> tuple[str, ...]:
    """A list, or beyond the peer a single string; empty strings are dropped (GEN-07)."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)):
        raise _fault(name, "of type array")
    if not all(isinstance(text, str) for text in texts):
        raise _fault(name, "of an array of strings")
    return tuple(text for text in texts if text)


def _logit_bias(name: str, value: Any) -> tuple[tuple[int | str, float], ...]:
    """`{"token or id": bias}` or `[[token or id, bias], …]`."""
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list) or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise _fault(name, "an object or a list of pairs")
    return tuple((_bias_token(name, token), _float(name, bias)) for token, bias in pairs)


def _bias_token(name: str, token: Any) -> int | str:
    if isinstance(token, str):
        return int(token) if token.isdigit() and len(token) < 10 else token
    return _integer(name, token)


def _num_ctx(name: str, value: Any) -> int:
    num_ctx = _integer(name, value)
    if num_ctx < SMALLEST_NUM_CTX and num_ctx != 0:
        raise _fault(name, f"0 or at least {SMALLEST_NUM_CTX}")
    return num_ctx


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _fault(name, "of type string")
    return value


def _between(low: int, high: int) -> Callable[[str, Any], int]:
    def within(name: str, value: Any) -> int:
        number = _integer(name, value)
        if not low <= number <= high:
            raise _fault(name, f"between {low} and {high}")
        return number

    return within


def _coercions() -> dict[str, Callable[[str, Any], Any]]:
    """One coercion an option, by the type that Options declares for it."""
    by_type = {int: _integer, int | None: _integer, float: _float, float | None: _float, bool: _boolean, bool | None: _boolean}
    side = _between(1, LARGEST_SIDE)
    special = {
        "stop": _stop,
        "logit_bias": _logit_bias,
        "num_ctx": _num_ctx,
        "negative_prompt": _text,
        "width": side,
        "height": side,
        "steps": _between(1, MOST_STEPS),
    }
    hints = get_type_hints(Options)
    return {name: special.get(name) or by_type[hints[name]] for name in Options.__struct_fields__}


_COERCE = _coercions()


def parse_options(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the validated options that `raw` gives (null: not given) and the names that are unknown.

    Raises RequestError `option "top_k" must be of type integer`.
    """
    given = {name: value for name, value in raw.items() if value is not None}
    known = {name: _COERCE[name](name, value) for name, value in given.items() if name in _COERCE}
    return known, [name for name in given if name not in _COERCE]


def resolve_options(parameters: Mapping[str, Any], options: Mapping[str, Any]) -> Options:
    """The defaults under the model's parameters under the request's options, all of them validated before."""
    return Options(**{**parameters, **options})
