"""`keep_alive` and other durations, as Go's time.ParseDuration reads them (GEN-05).

Sources: Go's time package documentation for the grammar; `shared/golden` keepalive-* for the error texts.
"""

import math
import re

from serow.bounds import DURATION, quoted
from serow.errors import RequestError

FOREVER = math.inf
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = (2**63 - 1) / 1e9  # Go's largest duration, 292 years
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")


def parse_duration(text: str) -> float:
    """Return seconds; raises RequestError in Go's words. No spaces, a unit on every number, "0" alone accepted."""
    shown = quoted(text)
    if len(text) > DURATION.limit:
        raise RequestError(f'time: invalid duration "{shown}"')
    sign, rest = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    if rest == "0":
        return 0.0
    if not rest:
        raise RequestError(f'time: invalid duration "{shown}"')
    seconds = 0.0
    while rest:
        match = _PART.match(rest)
        assert match is not None
        whole, fraction, unit = match.groups()
        if not whole and not fraction:
            raise RequestError(f'time: invalid duration "{shown}"')
        if not unit:
            raise RequestError(f'time: missing unit in duration "{shown}"')
        if unit not in _UNITS:
            raise RequestError(f'time: unknown unit "{unit}" in duration "{shown}"')
        seconds += float(f"{whole or 0}.{fraction or 0}") * _UNITS[unit]
        rest = rest[match.end() :]
    if seconds > _LONGEST:
        raise RequestError(f'time: invalid duration "{shown}"')
    return -seconds if sign == "-" else seconds


def parse_keep_alive(value: object) -> float:
    """Seconds to stay loaded; negative or above 292 years is for ever (math.inf). Numbers are seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise RequestError(f"Unsupported type: '{_go_type(value)}'")
    try:
        seconds = parse_duration(value) if isinstance(value, str) else float(value)
    except OverflowError:  # a whole number beyond all floats
        return FOREVER
    return FOREVER if seconds < 0 or seconds > _LONGEST else seconds


def _go_type(value: object) -> str:
    return {bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}.get(type(value), type(value).__name__)
