"""`format` of a request: checked, relaxed to what can be followed while sampling, compiled to a grammar (GEN-12)."""

import json
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from serow.constraints import grammar
from serow.constraints.beyond import compile_beyond
from serow.constraints.constraint import Constraint
from serow.constraints.dialect import Document, translate
from serow.constraints.keywords import step
from serow.constraints.portable import portable
from serow.constraints.relax import Relaxed, relax
from serow.constraints.repair import find_unsatisfiable, repair
from serow.constraints.satisfiable import refuse_unsatisfiable
from serow.errors import FormatError

MAX_BYTES = 1 << 20  # of a format as JSON
_MOST_SHOWN = 100  # characters of a wrong format in the message
_MOST_PLACES = 3  # named for each keyword in a warning
_CACHED_BYTES = 64 << 10  # larger formats are compiled each time
_CACHED_FORMATS = 64
_MOST_BACKTRACKING = 20_000  # steps of one pattern with look-around, half a millisecond; after that it does not match
_BUDGET = 0.5  # seconds until only the quick ways are taken, and as much again until a schema is refused


def compile_format(format: Any) -> Constraint | None:
    """The constraint of a decoded `format`; None for none. Raises FormatError that says where.

    Takes milliseconds, two seconds at worst, and microseconds for one seen lately: call it off the event loop.
    """
    if format is None or format == "":
        return None
    text = _encode({"type": "object"} if format == "json" else format)
    if not isinstance(format, dict) and format != "json":
        shown = json.dumps(text.decode()[:_MOST_SHOWN], ensure_ascii=False)
        raise FormatError(f'invalid format: {shown}; expected "json" or a valid JSON Schema object')
    return _compile(text) if len(text) <= _CACHED_BYTES else _compile.__wrapped__(text)


def _encode(format: Any) -> bytes:
    try:
        text = msgspec.json.encode(format)
    except RecursionError:
        raise FormatError("invalid format: nested too deeply") from None
    if len(text) > MAX_BYTES:
        raise FormatError(f"invalid format: larger than {MAX_BYTES >> 10} KiB")
    return text


@lru_cache(maxsize=_CACHED_FORMATS)
def _compile(text: bytes) -> Constraint:
    format = msgspec.json.decode(text)
    return compile_beyond(format) or _compile_schema(format)


def _compile_schema(source: dict[str, Any]) -> Constraint:
    is_strict = source.get("x-strict", False)
    if not isinstance(is_strict, bool):
        raise FormatError('invalid format: "x-strict" must be a boolean')
    start = time.monotonic()
    document = translate(source, start + _BUDGET)
    is_valid = _validator(document)
    refuse_unsatisfiable(document)
    relaxed = relax(document, start + _BUDGET)
    if reason := repair(relaxed, start + 2 * _BUDGET):
        raise _refused(relaxed.document, reason)
    warnings = _warnings(relaxed)
    if warnings and is_strict:
        raise FormatError(f"invalid {warnings[0]}, and x-strict is set")
    return Constraint(grammar.of_schema(relaxed.document.whole()), is_valid, warnings, portable(relaxed.document))


def _refused(document: Document, reason: str) -> FormatError:
    if not grammar.is_unsatisfiable(reason):
        return FormatError(f"invalid format: the schema can't be compiled: {grammar.sentence(reason)}")
    return FormatError(f"invalid format: nothing can satisfy the schema at {document.where(find_unsatisfiable(document.root))}")


def _warnings(relaxed: Relaxed) -> tuple[str, ...]:
    """One sentence for each keyword that was given up, with its places."""
    return tuple(
        f"format: {keyword} is checked after sampling, not while ({_list(places)})"
        for keyword, places in relaxed.given_up.items()
    )


def _list(places: list[str]) -> str:
    more = f" and {len(places) - _MOST_PLACES} more" if len(places) > _MOST_PLACES else ""
    return ", ".join(places[:_MOST_PLACES]) + more


def _validator(document: Document) -> Callable[[str], bool]:
    """The check of a finished text against the whole schema; a text nested too deeply to check does not pass."""
    from jsonschema_rs import Draft202012Validator, FancyRegexOptions, ValidationError

    patterns = FancyRegexOptions(backtrack_limit=_MOST_BACKTRACKING)
    try:
        validator = Draft202012Validator(document.whole(), validate_formats=True, offline=True, pattern_options=patterns)
    except ValidationError as error:
        where = document.where(step("", *error.instance_path))
        raise FormatError(f"invalid format: {grammar.sentence(error.message)} at {where}") from None

    def is_valid(text: str) -> bool:
        try:
            return validator.is_valid(json.loads(text, parse_float=_finite, parse_constant=_refuse_constant))
        except (ValueError, RecursionError):
            return False

    return is_valid


def _finite(digits: str) -> float:
    """JSON's numbers have no largest; the validator takes no infinity."""
    return max(-sys.float_info.max, min(sys.float_info.max, float(digits)))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
