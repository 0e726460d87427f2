"""`format` of a request: checked, relaxed to what can be followed while sampling, compiled to a grammar (GEN-12)."""

import json
import time
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
from serow.constraints.tighten import tighten
from serow.constraints.validation import Unfit, validator
from serow.constraints.wrapper import refuse_wrapper
from serow.errors import FormatError

PRELOAD = ("jsonschema_rs", "llguidance", "llguidance.gbnf_to_lark")  # imported late: what only describes formats needs none

MAX_BYTES = 1 << 20  # of a format as JSON
_MOST_SHOWN = 100  # characters of a wrong format in the message
_MOST_PLACES = 3  # named for each keyword in a warning
_BUDGET = 0.25  # seconds until only the quick ways are taken, and as much again until a schema is refused


def compile_format(format: Any) -> Constraint | None:
    """The constraint of a decoded `format`; None for none. Raises FormatError that says where.

    Takes milliseconds, but what the format decides may take as long as it likes: `service.Constraints` does it elsewhere.
    """
    source = encode(format)
    return compile_source(source) if source else None


def compile_source(source: bytes) -> Constraint:
    """The constraint of what `encode` made of a format. Raises FormatError."""
    try:
        format = json.loads(source)
    except RecursionError:
        raise FormatError("invalid format: nested too deeply") from None
    except ValueError:
        raise FormatError("invalid format: a number in it has too many digits") from None
    return compile_beyond(format) or _compile_schema(format)


def validate(constraint: Constraint, text: str) -> bool:
    """`Constraint.validate`, for a process that is called by name."""
    return constraint.validate(text)


def encode(format: Any) -> bytes:
    """A `format` as JSON, "json" as the schema that it stands for; empty for none. Raises FormatError."""
    if format is None or format == "":
        return b""
    try:
        source = msgspec.json.encode({"type": "object"} if format == "json" else format)
    except RecursionError:
        raise FormatError("invalid format: nested too deeply") from None
    except UnicodeEncodeError:
        raise FormatError("invalid format: a text in it is no Unicode: it holds half of a surrogate pair") from None
    if len(source) > MAX_BYTES:
        raise FormatError(f"invalid format: larger than {MAX_BYTES >> 10} KiB")
    if not isinstance(format, dict) and format != "json":
        shown = json.dumps(source.decode()[:_MOST_SHOWN], ensure_ascii=False)
        raise FormatError(f'invalid format: {shown}; expected "json" or a valid JSON Schema object')
    return source


def _compile_schema(source: dict[str, Any]) -> Constraint:
    is_strict = source.get("x-strict", False)
    if not isinstance(is_strict, bool):
        raise FormatError('invalid format: "x-strict" must be a boolean')
    refuse_wrapper(source)
    start = time.thread_time()
    document = translate(source, start + _BUDGET)
    _refuse_unfit(document)
    refuse_unsatisfiable(document)
    relaxed = relax(document, start + _BUDGET)
    sampled = _sampled(relaxed, start + 2 * _BUDGET)
    warnings = _warnings(relaxed)
    if warnings and is_strict:
        raise FormatError(f"invalid {warnings[0]}, and x-strict is set")
    return Constraint(
        grammar=grammar.of_schema(sampled.whole()),
        warnings=warnings,
        portable=json.dumps(portable(relaxed.document)).encode(),
        document=json.dumps(document.whole()).encode(),
    )


def _sampled(relaxed: Relaxed, deadline: float) -> Document:
    """The document that texts are sampled by: tightened where that can be, and repaired where it must."""
    tightened = tighten(relaxed.document)
    if not grammar.schema_refusal(tightened.whole()):
        return tightened
    if reason := repair(relaxed, deadline):
        raise _refused(relaxed.document, reason)
    tightened = tighten(relaxed.document, relaxed.given_up)
    return relaxed.document if grammar.schema_refusal(tightened.whole()) else tightened


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


def _refuse_unfit(document: Document) -> None:
    """Raises FormatError where the validator does not take the schema."""
    try:
        validator(document.whole())
    except Unfit as error:
        raise FormatError(f"invalid format: {error} at {document.where(step('', *error.path))}") from None
