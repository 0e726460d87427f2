"""Printing as Go's package fmt does it: print, println, printf, and the text of any value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from serow.errors import TemplateError
from serow.gotemplate.budget import MAX_DEPTH, Budget
from serow.gotemplate.floats import SHORTEST, format_float
from serow.gotemplate.json_text import to_json
from serow.gotemplate.quoting import can_backquote, quote
from serow.gotemplate.values import Byte, JsonMap, Kind, Slice, Struct, encode, items, join_escapes, kind, type_name

_BASES = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_PREFIXES = {"b": "0b", "x": "0x", "X": "0X"}
_FLOAT_VERBS = "beEfFgGxX"


@dataclass
class Flags:
    """Flags, width and precision of one verb; the defaults are those of `%v`."""

    minus: bool = False
    plus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    plus_v: bool = False  # %+v: names of fields
    sharp_v: bool = False  # %#v: Go syntax
    width: int | None = None
    precision: int | None = None


class Printer:
    """Writes values in Go's notation, within a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._out: list[str] = []
        self.flags = Flags()

    def finish(self) -> str:
        """The text written so far."""
        return join_escapes("".join(self._out))

    def write(self, text: str) -> None:
        """Add text as it is."""
        self._budget.text(len(text))
        self._out.append(text)

    def value(self, value: Any, verb: str = "v") -> None:
        """Add an argument under a verb."""
        if kind(value) is Kind.NIL:
            self._pad("<nil>") if verb in "vT" else self.write(f"%!{verb}(<nil>)")
        elif verb == "T":
            self._pad(self._cut(type_name(value)))
        elif verb in "pw":  # an address, a wrapped error: there are none
            self._bad_verb(value, verb)
        else:
            self._value(value, verb, 0)

    def _value(self, value: Any, verb: str, depth: int) -> None:
        self._budget.step()
        if depth > MAX_DEPTH:
            raise TemplateError("template: data nested too deep to print")
        match kind(value):
            case Kind.NIL:
                self.write("interface {}(nil)" if self.flags.sharp_v else "<nil>")
            case Kind.BOOL:
                self._bool(value, verb)
            case Kind.INT | Kind.UINT:
                self._int(value, verb)
            case Kind.FLOAT:
                self._float(value, value, verb)
            case Kind.COMPLEX:
                self._complex(value, verb)
            case Kind.STRING:
                self._string(value, value, verb)
            case Kind.SLICE:
                self._slice(value, verb, depth)
            case Kind.MAP:
                self._map(value, verb, depth)
            case Kind.STRUCT:
                self._struct(value, verb, depth)

    def _bad_verb(self, value: Any, verb: str) -> None:
        self.write(f"%!{verb}({type_name(value)}=")
        self._value(value, "v", 0)
        self.write(")")

    def _pad(self, text: str, *, zeros: bool = True) -> None:
        flags = self.flags
        missing = (flags.width or 0) - len(text)
        if missing <= 0:
            self.write(text)
            return
        self._budget.text(missing)
        padding = ("0" if flags.zero and zeros and not flags.minus else " ") * missing
        self.write(text + padding if flags.minus else padding + text)

    def _cut(self, text: str) -> str:
        return text if self.flags.precision is None else text[: self.flags.precision]

    def _bool(self, value: bool, verb: str) -> None:
        if verb in "tv":
            self._pad("true" if value else "false")
        else:
            self._bad_verb(value, verb)

    def _int(self, value: int, verb: str) -> None:
        if verb in _BASES:
            self._digits(value, "x" if self.flags.sharp_v and isinstance(value, Byte) else verb)
        elif verb == "c":
            self._pad(_char(value))
        elif verb == "q":
            self._pad(quote(_char(value), "'", ascii_only=self.flags.plus))
        elif verb == "U":
            self._unicode(value)
        else:
            self._bad_verb(value, verb)

    def _digits(self, value: int, verb: str) -> None:
        """An integer: digits to the precision, base prefix, sign, padding."""
        flags = self.flags
        if flags.precision == 0 and value == 0:
            self._pad("", zeros=False)
            return
        sign = "-" if value < 0 else "+" if flags.plus else " " if flags.space else ""
        least = flags.precision or 0
        if flags.precision is None and flags.zero and not flags.minus:
            least = (flags.width or 0) - len(sign)
        self._budget.text(least)
        digits = f"{abs(value):{_BASES[verb]}}".rjust(least, "0")
        self._pad(sign + self._base_prefix(digits, verb) + digits, zeros=False)

    def _base_prefix(self, digits: str, verb: str) -> str:
        if verb == "O":
            return "0o"
        if self.flags.sharp_v and verb == "x":
            return "0x"
        if not self.flags.sharp:
            return ""
        return ("" if digits.startswith("0") else "0") if verb == "o" else _PREFIXES.get(verb, "")

    def _unicode(self, value: int) -> None:
        least = max(self.flags.precision or 0, 4)
        self._budget.text(least)
        char = f" '{chr(value)}'" if self.flags.sharp and 0 <= value <= 0x10FFFF and chr(value).isprintable() else ""
        self._pad(f"U+{value & 2**64 - 1:0{least}X}{char}", zeros=False)

    def _float(self, value: float, argument: Any, verb: str) -> None:
        """A float, or a part of the complex `argument`."""
        if verb not in _FLOAT_VERBS + "v":
            self._bad_verb(argument, verb)
            return
        flags = self.flags
        precision = flags.precision
        if precision is None:
            precision = 6 if verb in "eEfF" else SHORTEST
        self._budget.text(precision)
        text = format_float(value, {"v": "g", "F": "f"}.get(verb, verb), precision)
        sign, digits = (text[0], text[1:]) if text[0] in "+-" else ("+", text)
        if flags.space and sign == "+" and not flags.plus:
            sign = " "
        if digits in ("Inf", "NaN"):
            shows_sign = digits == "Inf" or flags.plus or flags.space
            self._pad(sign + digits if shows_sign else digits, zeros=False)
            return
        if flags.sharp and verb != "b":
            digits = _keep_zeros(digits, verb, precision)
        self._signed(sign, digits)

    def _signed(self, sign: str, digits: str) -> None:
        """A float's text; zeros that pad it go between the sign and the digits."""
        flags = self.flags
        if not flags.plus and sign == "+":
            self._pad(digits)
        elif flags.zero and not flags.minus and flags.width is not None:
            missing = max(flags.width - 1 - len(digits), 0)
            self._budget.text(missing)
            self.write(sign + "0" * missing + digits)
        else:
            self._pad(sign + digits)

    def _complex(self, value: complex, verb: str) -> None:
        if verb not in _FLOAT_VERBS + "v":
            self._bad_verb(value, verb)
            return
        plus = self.flags.plus
        self.write("(")
        self._float(value.real, value, verb)
        self.flags.plus = True
        self._float(value.imag, value, verb)
        self.write("i)")
        self.flags.plus = plus

    def _string(self, text: str, argument: Any, verb: str) -> None:
        flags = self.flags
        if verb == "s" or (verb == "v" and not flags.sharp_v):
            self._pad(self._cut(text))
        elif verb in "vq":
            self._quoted(self._cut(text))
        elif verb in "xX":
            self._hex(encode(text), verb)
        else:
            self._bad_verb(argument, verb)

    def _quoted(self, text: str) -> None:
        self._budget.text(len(text))
        if self.flags.sharp and can_backquote(text):
            self._pad(f"`{text}`")
        else:
            self._pad(quote(text, ascii_only=self.flags.plus))

    def _hex(self, data: bytes, verb: str) -> None:
        flags = self.flags
        data = data if flags.precision is None else data[: flags.precision]
        prefix = "0x" if flags.sharp and data else ""
        self._budget.text(5 * len(data))
        text = prefix + (data.hex(" ").replace(" ", f" {prefix}") if flags.space and data else data.hex())
        self._pad(text.upper() if verb == "X" else text)

    def _slice(self, value: Any, verb: str, depth: int) -> None:
        if isinstance(value, Slice) and value.prints_json and verb in "vsxXq" and not self.flags.sharp_v:
            self._string(to_json(value, self._budget), value, verb)
            return
        if self.flags.sharp_v and isinstance(value, Slice) and value.items is None:
            self.write(f"{value.type_name}(nil)")
            return
        go_syntax = self.flags.sharp_v
        self.write(f"{type_name(value)}{{" if go_syntax else "[")
        for item in self._separated(items(value)):
            self._value(item, verb, depth + 1)
        self.write("}" if go_syntax else "]")

    def _map(self, value: dict[str, Any], verb: str, depth: int) -> None:
        if isinstance(value, JsonMap) and verb in "vsxXq" and not self.flags.sharp_v:
            self._string(to_json(value, self._budget), value, verb)
            return
        self._budget.step(len(value))
        go_syntax = self.flags.sharp_v
        self.write(f"{type_name(value)}{{" if go_syntax else "map[")
        for key in self._separated(sorted(value)):
            self._value(key, verb, depth + 1)
            self.write(":")
            self._value(value[key], verb, depth + 1)
        self.write("}" if go_syntax else "]")

    def _struct(self, value: Struct, verb: str, depth: int) -> None:
        flags = self.flags
        if value.json is not None and verb in "vsxXq" and not flags.sharp_v:
            self._string(to_json(value, self._budget), value, verb)
            return
        self.write(f"{value.type_name}{{" if flags.sharp_v else "{")
        for name in self._separated(list(value.fields)):
            if flags.plus_v or flags.sharp_v:
                self.write(f"{name}:")
            self._value(value.fields[name], verb, depth + 1)
        self.write("}")

    def _separated(self, elements: Sequence[Any]) -> Iterator[Any]:
        for index, element in enumerate(elements):
            if index:
                self.write(", " if self.flags.sharp_v else " ")
            yield element


def _char(code: int) -> str:
    return chr(code) if 0 <= code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else "\ufffd"


def _keep_zeros(digits: str, verb: str, precision: int) -> str:
    """What the flag # does to a float: a decimal point always, zeros up to the precision for g, G and x."""
    missing = (6 if precision == SHORTEST else precision) if verb in "vgGx" else 0
    marks = "pP" if verb in "xX" else "eEpP"
    cut = next((index for index, char in enumerate(digits) if char in marks), len(digits))
    head, tail = digits[:cut], digits[cut:]
    missing -= len(head.replace(".", "").lstrip("0"))
    if "." not in head:
        missing -= head == "0"
        head += "."
    return head + "0" * max(missing, 0) + tail


def format_values(budget: Budget, values: Sequence[Any]) -> str:
    """Go's fmt.Sprint: a space between two operands when neither is a string."""
    printer = Printer(budget)
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            printer.write(" ")
        printer.value(value)
    return printer.finish()


def format_line(budget: Budget, values: Sequence[Any]) -> str:
    """Go's fmt.Sprintln: spaces between all operands, and a newline."""
    printer = Printer(budget)
    for index, value in enumerate(values):
        printer.write(" " if index else "")
        printer.value(value)
    printer.write("\n")
    return printer.finish()
