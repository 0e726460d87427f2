"""Whether a finished text fits its format: its whole schema, or a grammar."""

import json
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from serow.constraints import grammar
from serow.errors import FormatError

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

_MOST_BACKTRACKING = 20_000  # steps of one pattern with look-around, half a millisecond; after that it does not match
_CACHED_VALIDATORS = 16


class Unfit(FormatError):
    """The validator takes no such schema; `path` leads to what it does not take."""

    def __init__(self, message: str, path: tuple[str | int, ...]) -> None:
        super().__init__(message)
        self.path = path


def fits_schema(document: bytes, text: str) -> bool:
    """Whether a text is JSON that fits a schema; one nested too deeply to check does not."""
    return _is_valid(_remembered(document), text)


def fits_grammar(text_grammar: str, text: str) -> bool:
    """Whether a whole text fits a grammar in Lark."""
    return grammar.accepts(text_grammar, text)


def validator(document: dict[str, Any]) -> "Draft202012Validator":
    """The validator of a schema; raises Unfit."""
    from jsonschema_rs import Draft202012Validator, FancyRegexOptions, ValidationError

    patterns = FancyRegexOptions(backtrack_limit=_MOST_BACKTRACKING)
    try:
        return Draft202012Validator(document, validate_formats=True, offline=True, pattern_options=patterns)
    except ValidationError as error:
        raise Unfit(grammar.sentence(error.message), tuple(error.instance_path)) from None


@lru_cache(maxsize=_CACHED_VALIDATORS)
def _remembered(document: bytes) -> "Draft202012Validator":
    return validator(json.loads(document))


def _is_valid(found: "Draft202012Validator", text: str) -> bool:
    try:
        return found.is_valid(json.loads(text, parse_float=_finite, parse_constant=_refuse_constant))
    except (ValueError, RecursionError):
        return False


def _finite(digits: str) -> float:
    """JSON's numbers have no largest; the validator takes no infinity."""
    return max(-sys.float_info.max, min(sys.float_info.max, float(digits)))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
