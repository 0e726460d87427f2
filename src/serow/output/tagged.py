"""Calls with a tag around each argument; values are bare text and become JSON by the tool's schema."""

import re
from collections.abc import Generator, Iterable

from serow.output.calls import Call
from serow.output.format import CallFormat
from serow.output.json_calls import pass_value
from serow.output.source import Ended, Reading, Source, Unreadable
from serow.output.typed import escaped, json_of, types_of

_LONGEST_NAME = 400  # characters


def read_tagged(source: Source, format: CallFormat, call: Call) -> Reading:
    """`add><parameter=a>1</parameter></function>`: the name, then key and value by turns, then the call's end."""
    ends = [format.name_close] if format.name_close else [format.key_open, format.call_close, "{"]
    name, end = yield from source.until(_any_of(ends), _LONGEST_NAME)
    call.named(name.strip())
    if not format.name_close:
        source.position -= len(end)
    if end == "{":
        yield from pass_value(source, call.add)
        return
    call.add("{")
    separator = ""
    while (yield from _has_next(source, format)):
        call.add(separator)
        yield from _argument(source, format, call)
        separator = ", "
    call.add("}")


def _has_next(source: Source, format: CallFormat) -> Generator[None, None, bool]:
    """Whether an argument follows; the call's end is read. A text that the model ended by itself may lack it."""
    try:
        found = yield from source.starts_with((format.key_open, format.call_close))
    except Ended:
        if source.is_cut:
            raise
        return False
    source.position += len(found)
    if not found:
        raise Unreadable("a tool call has text between its arguments")
    return found == format.key_open


def _argument(source: Source, format: CallFormat, call: Call) -> Reading:
    key, _ = yield from source.until(_any_of(format.key_close), _LONGEST_NAME)
    if format.value_open:
        yield from source.expect(format.value_open)
    assert call.tool is not None
    types = types_of(call.tool.parameters, key.strip())
    call.add(f'"{escaped(key.strip())}": ')
    value = _Value()
    if types <= {"string"}:
        call.add('"')
        yield from source.pass_on(format.value_close, lambda piece: call.add(escaped(value.trim(piece))))
        call.add('"')
    else:
        pieces: list[str] = []
        yield from source.pass_on(format.value_close, lambda piece: pieces.append(value.trim(piece)))
        call.add(json_of("".join(pieces), types))


class _Value:
    """A value's text without one line break at either end, which belong to the tags."""

    def __init__(self) -> None:
        self._has_begun = False
        self._held = ""

    def trim(self, piece: str) -> str:
        """What of the value is sure so far."""
        if not self._has_begun:
            self._has_begun = True
            piece = piece.removeprefix("\n")
        piece = self._held + piece
        self._held = "\n" if piece.endswith("\n") else ""
        return piece.removesuffix("\n")


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(text) for text in texts))
