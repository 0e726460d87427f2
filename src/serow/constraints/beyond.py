"""Formats beside JSON: `{"regex": …}`, `{"choice": […]}` and `{"grammar": …}`.

Told apart from a schema by being the only key: none of the three is a keyword of JSON Schema, so a schema of just that key
would allow everything.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from serow.constraints import gbnf, grammar
from serow.constraints.constraint import Constraint
from serow.errors import FormatError

MAX_CHOICES = 1000
MAX_REGEX = 10_000  # characters


def compile_beyond(format: dict[str, Any]) -> Constraint | None:
    """The constraint of a format with one of the three keys alone; None for a schema. Raises FormatError."""
    if len(format) != 1:
        return None
    ((name, value),) = format.items()
    return _KINDS[name](value) if name in _KINDS else None


def _regex(value: Any) -> Constraint:
    if not isinstance(value, str) or not value or len(value) > MAX_REGEX:
        raise FormatError(f'invalid format: "regex" must be a string of 1 to {MAX_REGEX} characters')
    return Constraint(_checked("regex", grammar.of_regex(value)))


def _choice(value: Any) -> Constraint:
    is_list = isinstance(value, list) and all(isinstance(item, str) and item for item in value)
    if not is_list or not 0 < len(value) <= MAX_CHOICES:
        raise FormatError(f'invalid format: "choice" must be a list of 1 to {MAX_CHOICES} strings that are not empty')
    text = _checked("choice", grammar.of_regex("|".join(map(re.escape, value))))
    return Constraint(text, gbnf=f"root ::= {' | '.join(json.dumps(item) for item in value)}")


def _grammar(value: Any) -> Constraint:
    if not isinstance(value, str) or not value.strip():
        raise FormatError('invalid format: "grammar" must be a string of GBNF or Lark')
    gbnf.check_size(value)
    gbnf.check_directives(value)
    is_gbnf = gbnf.is_gbnf(value)
    text = grammar.of_lark(gbnf.to_lark(value) if is_gbnf else value)
    return Constraint(_checked("grammar", text), gbnf=value if is_gbnf else "")


def _checked(name: str, text: str) -> str:
    """A grammar that llguidance takes; raises FormatError for another."""
    if reason := grammar.refusal(text):
        raise FormatError(f"invalid format: {name}: {grammar.sentence(reason)}")
    return text


_KINDS: dict[str, Callable[[Any], Constraint]] = {"regex": _regex, "choice": _choice, "grammar": _grammar}
