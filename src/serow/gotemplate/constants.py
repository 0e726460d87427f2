"""Numbers of a template's source, as Go's strconv reads them."""

import math
import re

from serow.gotemplate.quoting import quote

MAX_INT = 2**63 - 1
_MAX_UINT = 2**64 - 1
_LONGEST = 400  # characters of a number
_INTEGER = re.compile(
    r"""([+-]?)(?:0[xX]((?:_?[0-9a-fA-F])+) | 0[bB]((?:_?[01])+) | 0[oO]((?:_?[0-7])+)
      | (0(?:_?[0-7])*) | ([1-9](?:_?[0-9])*))""",
    re.VERBOSE,
)
_BASES = (16, 2, 8, 8, 10)
_DIGITS = r"[0-9](?:_?[0-9])*"
_HEX_DIGITS = r"[0-9a-fA-F](?:_?[0-9a-fA-F])*"
_DECIMAL = rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?"
_HEXADECIMAL = rf"[+-]?0[xX](?:_?{_HEX_DIGITS}(?:\.(?:{_HEX_DIGITS})?)?|\.{_HEX_DIGITS})[pP][+-]?{_DIGITS}"
_FLOAT = re.compile(rf"{_DECIMAL}|{_HEXADECIMAL}")
_COMPLEX = re.compile(rf"({_FLOAT.pattern})((?=[+-])(?:{_FLOAT.pattern}))i")


def read_number(source: str) -> int | float | complex:
    """The value of a number; the source alone says which type it has. Raises ValueError in Go's words.

    An int may be as large as an unsigned one of 64 bits: the evaluator refuses it.
    """
    if len(source) > _LONGEST:
        raise ValueError(f"illegal number syntax: {quote(source)}")
    if source.endswith("i"):
        return complex(0, _float(source[:-1], source))
    integer = _integer(source)
    if integer is not None:
        return integer
    value = _float(source, source)
    if not any(c in ".eEpP" for c in source):
        raise ValueError(f"integer overflow: {quote(source)}")
    return value


def read_complex(source: str) -> complex:
    """The value of `1+2i`; raises ValueError."""
    match = _COMPLEX.fullmatch(source)
    if match is None or len(source) > _LONGEST:
        raise ValueError(f"illegal number syntax: {quote(source)}")
    return complex(_float(match[1], source), _float(match[2], source))


def _integer(source: str) -> int | None:
    match = _INTEGER.fullmatch(source)
    if match is None:
        return None
    sign, *groups = match.groups()
    base, digits = next((base, digits) for base, digits in zip(_BASES, groups, strict=True) if digits is not None)
    value = int(digits.replace("_", ""), base)
    if not sign:
        return value if value <= _MAX_UINT else None
    value = -value if sign == "-" else value
    return value if -MAX_INT - 1 <= value <= MAX_INT else None


def _float(text: str, source: str) -> float:
    plain = text.replace("_", "")
    if not _FLOAT.fullmatch(text):
        raise ValueError(f"illegal number syntax: {quote(source)}")
    try:
        value = float.fromhex(plain) if "x" in plain.lower() else float(plain)
    except OverflowError:
        value = math.inf
    if math.isinf(value):
        raise ValueError(f"illegal number syntax: {quote(source)}")
    return value
