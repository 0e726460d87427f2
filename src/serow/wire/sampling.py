"""How to sample, by OpenAI's names and by our own: the fields that become an Ask's options (OAI-06, RESP-03, ANT-05)."""

from collections.abc import Iterable
from typing import Any

from serow import bounds
from serow.duration import parse_keep_alive
from serow.errors import RequestError
from serow.options import PICTURE_OPTIONS, TABLE, Options, parse_options
from serow.wire.fields import Fields

FALLBACKS = {"temperature": 1.0, "top_p": 1.0}  # of OpenAI's API, under what the model's own parameters say
UNBOUNDED = -1
LARGEST_BIAS = 100  # of OpenAI's API; `options` takes any
_OWN_NAMES = [name for name in Options.__struct_fields__ if name not in (*PICTURE_OPTIONS, "stop", "num_predict")]
_RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}


def options_of(fields: Fields, *lengths: str, may_be_empty: bool = False) -> dict[str, Any]:
    """The options that a request gives; `lengths` are the names of what bounds the answer, the first that is there wins."""
    options = own_options_of(fields)
    for name, (low, high) in _RANGES.items():
        fields.number(name, low, high)
    for name in _OWN_NAMES:
        if TABLE[name][0] is int:
            fields.integer(name)
        options |= option_of(fields, name)
    if "logit_bias" in fields:
        _check_biases(fields, options["logit_bias"])
    if stop := stop_of(fields, "stop"):
        options["stop"] = stop
    options |= length_of(fields, *lengths, may_be_empty=may_be_empty)
    return options


def _check_biases(fields: Fields, biases: Iterable[tuple[int | str, float]]) -> None:
    """Raise RequestError for a bias that OpenAI's API does not take, with the token that it is for."""
    for token, bias in biases:
        if abs(bias) > LARGEST_BIAS:
            allowed = f"must be between -{LARGEST_BIAS} and {LARGEST_BIAS}"
            raise fields.fault("logit_bias", f'{fields.at("logit_bias")} of "{bounds.quoted(str(token))}" {allowed}')


def own_options_of(fields: Fields) -> dict[str, Any]:
    """`options` as /api/chat has it, which lies under the fields of the dialect."""
    inner = fields.member("options")
    return {} if inner is None else _all_known(inner)


def _all_known(inner: Fields) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in Options.__struct_fields__:
        options |= option_of(inner, name)
    inner.warn_of_unread()
    return options


def option_of(fields: Fields, name: str) -> dict[str, Any]:
    """The option of that name, where a field gives it."""
    value = fields.value(name)
    if value is None:
        return {}
    try:
        return parse_options({name: value})[0]
    except RequestError as error:
        raise fields.fault(name, str(error), "invalid_type") from None


def stop_of(fields: Fields, name: str) -> tuple[str, ...]:
    """Stop strings: one, or a list; empty ones are dropped."""
    value = fields.value(name)
    if isinstance(value, str):
        return (value,) if value else ()
    if value is not None and not isinstance(value, list):
        raise fields.mistyped(name, "a string or an array of strings", value)
    return tuple(text for text in fields.strings(name) if text)


def length_of(fields: Fields, *names: str, may_be_empty: bool = False) -> dict[str, Any]:
    """`num_predict` by the first of `names` that is there; negative is until the end, 0 only where it `may_be_empty`."""
    found: dict[str, Any] = {}
    for name in reversed(names):
        length = fields.integer(name)
        if length == 0 and not may_be_empty:
            raise fields.fault(name, f"{fields.at(name)} must be at least 1")
        if length is not None:
            found = {"num_predict": max(UNBOUNDED, length)}
    return found


def keep_alive_of(fields: Fields) -> float | None:
    """How long the model stays, as in /api/chat."""
    value = fields.value("keep_alive")
    try:
        return None if value is None else parse_keep_alive(value)
    except RequestError as error:
        raise fields.fault("keep_alive", str(error)) from None


def logprobs_of(fields: Fields, name: str = "top_logprobs") -> int:
    """How many alternatives each token is to be told with."""
    number = fields.integer(name)
    if number is not None and not 0 <= number <= 20:
        raise fields.fault(name, f"{name} must be between 0 and 20")
    return number or 0
