"""Parameters as people type them: words, read by the type that the option has."""

from collections.abc import Sequence
from typing import Any

from serow.errors import RequestError
from serow.options import TABLE, parse_options

_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def parse_parameter(name: str, words: Sequence[str]) -> Any:
    """The value of `/set parameter NAME WORDS…`; raises RequestError."""
    if name not in TABLE:
        raise RequestError(f"unknown parameter '{name}'")
    kind, _ = TABLE[name]
    options, _ = parse_options({name: _value(kind, words)})
    return options[name]


def _value(kind: Any, words: Sequence[str]) -> Any:
    if kind in (int, int | None):
        return _number(int, words[0])
    if kind in (float, float | None):
        return _number(float, words[0])
    if kind in (bool, bool | None):
        return _BOOLEANS.get(words[0].lower(), words[0])
    if kind == str | None:
        return " ".join(words)
    return list(words)


def _number(kind: type[int] | type[float], word: str) -> Any:
    """The number, or the word as it is, which the option's own check then refuses in its words."""
    try:
        return kind(word)
    except ValueError:
        return word
