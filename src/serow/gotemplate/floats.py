"""Text of floating-point numbers as Go's strconv.FormatFloat makes it."""

import math
from decimal import Decimal

SHORTEST = -1  # as many digits as tell the number from its neighbours


def format_float(value: float, verb: str, precision: int) -> str:
    """Format with one of the verbs b e E f g G x X; the sign only if it is negative."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "-Inf" if value < 0 else "+Inf"
    match verb:
        case "b":
            return _binary(value)
        case "x" | "X":
            text = _hexadecimal(value, precision)
            return text.upper() if verb == "X" else text
    text = _shortest(value, verb.lower()) if precision < 0 else f"{value:.{precision}{verb.lower()}}"
    return text.upper() if verb.isupper() else text


def _shortest(value: float, verb: str) -> str:
    sign = "-" if math.copysign(1, value) < 0 else ""
    digits, point = _digits(abs(value))
    exponent = point - 1
    if verb == "e" or (verb == "g" and not -4 <= exponent < 6):
        return f"{sign}{digits[0]}{'.' + digits[1:] if len(digits) > 1 else ''}e{exponent:+03d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    whole, fraction = digits[:point].ljust(point, "0"), digits[point:]
    return f"{sign}{whole}{'.' + fraction if fraction else ''}"


def _digits(value: float) -> tuple[str, int]:
    """The shortest digits d of a number and the p with value = 0.d * 10**p."""
    _, numerals, exponent = Decimal(repr(value)).as_tuple()
    digits = "".join(map(str, numerals))
    return (digits.rstrip("0"), len(digits) + int(exponent)) if value else ("0", 1)


def _binary(value: float) -> str:
    """Mantissa and exponent of the 64 bits, as `4503599627370496p-52`."""
    fraction, exponent = math.frexp(value)
    shift = max(exponent - 53, -1074) if value else -1074
    return f"{int(math.ldexp(fraction, exponent - shift))}p{shift:+d}"


def _hexadecimal(value: float, precision: int) -> str:
    """As `0x1.8p+01`: normalised, rounded to `precision` digits, half to even."""
    sign = "-" if math.copysign(1, value) < 0 else ""
    if value == 0:
        mantissa, exponent = 0, 0
    else:
        fraction, exponent = math.frexp(abs(value))
        mantissa, exponent = int(fraction * 2**53), exponent - 1
    if 0 <= precision < 13:
        unit = 1 << (52 - 4 * precision)
        mantissa = round(mantissa / unit) * unit if unit > 1 else mantissa
        mantissa, exponent = (mantissa >> 1, exponent + 1) if mantissa >> 53 else (mantissa, exponent)
    digits = f"{mantissa & (2**52 - 1):013x}"
    digits = digits.rstrip("0") if precision < 0 else digits[:precision].ljust(precision, "0")
    return f"{sign}0x{mantissa >> 52}{'.' + digits if digits else ''}p{exponent:+03d}"
