"""The format strings of Go's fmt.Sprintf: flags, widths, precisions, argument indexes, and Go's complaints in the text."""

import re
from collections.abc import Sequence
from typing import Any

from serow.gotemplate.budget import Budget
from serow.gotemplate.printf import Flags, Printer
from serow.gotemplate.values import Kind, kind, type_name

_LARGEST = 1_000_000  # a width or precision beyond it is none
_DIGITS = re.compile("[0-9]*")
_INDEX = re.compile(r"\[([^]]*)\]")
_FLAGS = {"-": "minus", "+": "plus", "#": "sharp", " ": "space", "0": "zero"}


def format_string(budget: Budget, text: str, arguments: Sequence[Any]) -> str:
    """Go's fmt.Sprintf; raises TemplateError only when the budget is used up."""
    return _Formatter(budget, text, arguments).run()


class _Formatter:
    def __init__(self, budget: Budget, text: str, arguments: Sequence[Any]) -> None:
        self._budget = budget
        self._printer = Printer(budget)
        self._text = text
        self._pos = 0
        self._arguments = arguments
        self._next = 0  # index of the next argument
        self._is_reordered = False  # an explicit index was met
        self._is_good = True  # the index of the current verb is
        self._after_index = False  # the last thing read was an index

    def run(self) -> str:
        printer, text = self._printer, self._text
        while (start := text.find("%", self._pos)) >= 0:
            printer.write(text[self._pos : start])
            self._pos = start + 1
            self._budget.step()
            self._verb()
        printer.write(text[self._pos :])
        if not self._is_reordered and self._next < len(self._arguments):
            self._extra()
        return printer.finish()

    def _at(self, char: str) -> bool:
        return self._text.startswith(char, self._pos)

    def _verb(self) -> None:
        flags = self._printer.flags = Flags()
        self._is_good = True
        while (name := _FLAGS.get(self._text[self._pos : self._pos + 1])) is not None:
            setattr(flags, name, True)
            self._pos += 1
        self._after_index = False
        self._index()
        self._width(flags)
        self._precision(flags)
        if not self._after_index:
            self._index()
        if self._pos >= len(self._text):
            self._printer.write("%!(NOVERB)")
            return
        verb = self._text[self._pos]
        self._pos += 1
        self._print(verb, flags)

    def _print(self, verb: str, flags: Flags) -> None:
        if verb == "%":
            self._printer.write("%")
        elif not self._is_good:
            self._printer.write(f"%!{verb}(BADINDEX)")
        elif self._next >= len(self._arguments):
            self._printer.write(f"%!{verb}(MISSING)")
        else:
            if verb in "vw":
                flags.sharp_v, flags.sharp = flags.sharp, False
                flags.plus_v, flags.plus = flags.plus, False
            self._printer.value(self._arguments[self._next], verb)
            self._next += 1

    def _index(self) -> None:
        """Read an explicit argument index `[n]`, counted from one."""
        self._after_index = False
        if not self._at("["):
            return
        self._is_reordered = True
        match = _INDEX.match(self._text, self._pos)
        if match is None:
            self._pos += 1
            self._is_good = False
            return
        self._pos = match.end()
        digits = match[1]
        self._after_index = digits.isascii() and digits.isdigit() and len(digits) < 8
        if self._after_index and 0 < int(digits) <= len(self._arguments):
            self._next = int(digits) - 1
        else:
            self._is_good = False

    def _width(self, flags: Flags) -> None:
        if not self._at("*"):
            flags.width = self._number()
            self._is_good &= not (self._after_index and flags.width is not None)
            return
        flags.width = self._star()
        if flags.width is None:
            self._printer.write("%!(BADWIDTH)")
        elif flags.width < 0:
            flags.width, flags.minus, flags.zero = -flags.width, True, False

    def _precision(self, flags: Flags) -> None:
        if not self._at(".") or self._pos + 1 >= len(self._text):
            return
        self._pos += 1
        self._is_good &= not self._after_index
        self._index()
        if not self._at("*"):
            flags.precision = self._number() or 0
            return
        precision = self._star()
        if precision is None or precision < 0:
            self._printer.write("%!(BADPREC)")
        else:
            flags.precision = precision

    def _number(self) -> int | None:
        """A number of the format string; one that is far too large swallows the rest of it, as in Go."""
        match = _DIGITS.match(self._text, self._pos)
        assert match is not None
        self._pos = match.end()
        digits = match[0].lstrip("0")
        if len(digits) > 8 or int(digits[:-1] or 0) > _LARGEST:
            self._pos = len(self._text)
            return None
        return int(match[0][-8:]) if match[0] else None

    def _star(self) -> int | None:
        """The next argument as a width or precision; None if it is no reasonable integer."""
        self._pos += 1
        self._after_index = False
        if self._next >= len(self._arguments):
            return None
        value = self._arguments[self._next]
        self._next += 1
        is_integer = kind(value) in (Kind.INT, Kind.UINT) and abs(value) <= _LARGEST
        return int(value) if is_integer else None

    def _extra(self) -> None:
        self._printer.flags = Flags()
        self._printer.write("%!(EXTRA ")
        for index, value in enumerate(self._arguments[self._next :]):
            self._printer.write(", " if index else "")
            if kind(value) is not Kind.NIL:
                self._printer.write(f"{type_name(value)}=")
            self._printer.value(value)
        self._printer.write(")")
