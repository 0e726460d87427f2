"""Calls whose arguments are JSON: the whole call an object, or the name before it. The text passes through as it is written."""

import re
from collections.abc import Callable, Generator

import msgspec

from serow.output.calls import Call
from serow.output.format import CallFormat
from serow.output.source import Reading, Source, Unreadable

_OUTSIDE = re.compile(r'["{}\[\]]')
_INSIDE = re.compile(r'["\\]')  # a string
_SCALAR_END = re.compile(r"[\s,\]}]")
_BRACE = re.compile(r"\{")
_DEEPEST = 500  # objects within objects
_LONGEST_SCALAR = 1000  # characters
_LONGEST_HEAD = 400  # characters between an opening and the arguments


def read_object(source: Source, format: CallFormat, call: Call) -> Reading:
    """`{"name": …, "arguments": {…}}`, members in any order, or all of it as the member "function" of an object."""
    yield from source.expect("{")
    char = yield from source.peek()
    while char != "}":
        key = yield from _text(source)
        yield from source.expect(":")
        char = yield from source.peek()
        yield from _member(source, format, call, key, char)
        char = yield from source.peek()
        if char == ",":
            source.position += 1
            char = yield from source.peek()
        elif char != "}":
            raise Unreadable("a tool call is no JSON object")
    source.position += 1


def _member(source: Source, format: CallFormat, call: Call, key: str, char: str) -> Reading:
    if not format.name and call.tool is None:
        call.named(key)
        yield from pass_value(source, call.add)
    elif key in (format.name, "name", "function") and char == '"':
        _name(format, call, (yield from _text(source)))
    elif key in (format.arguments, "arguments", "parameters"):
        if call.stranger:
            call.named(call.stranger)
        yield from _arguments(source, call, char)
    elif key == "function" and char == "{":
        yield from read_object(source, format, call)
    elif key in (format.id, "id") and char == '"':
        call.identified((yield from _text(source)))
    elif key != "type" and not format.openings:
        raise Unreadable  # an object like any other
    else:
        yield from pass_value(source, lambda _: None)


def _name(format: CallFormat, call: Call, name: str) -> None:
    """A strange name in an object without an opening is a call's only where arguments stand beside it."""
    if not format.openings and not call.knows(name):
        call.stranger = name
    if not call.stranger or call.has_arguments:
        call.named(name)


def _arguments(source: Source, call: Call, char: str) -> Reading:
    """An object, or as some models write it, a string that holds one; null is none."""
    if char == "{":
        yield from pass_value(source, call.add)
    elif char == '"':
        call.add((yield from _text(source)))
    elif char == "n":
        yield from source.expect("null")
        call.add("{}")
    else:
        raise Unreadable("the arguments of a tool call are no JSON object")


def read_named(source: Source, format: CallFormat, call: Call) -> Reading:
    """The name, what stands between, the arguments' object."""
    head, brace = yield from source.until(_BRACE, _LONGEST_HEAD)
    source.position -= len(brace)
    name, id = _parts(head, format)
    call.identified(id)
    call.named(name)
    yield from pass_value(source, call.add)


def _parts(head: str, format: CallFormat) -> tuple[str, str]:
    """The name and the id in what stands before the arguments."""
    if format.is_name_in_id:
        id = head.removesuffix(head[len(head.rstrip()) :]).removesuffix(format.between[0]).strip()
        return re.sub(r":\d+$", "", id.removeprefix("functions.")), id
    for between in format.between:
        before, _, after = (re.escape(part) for part in _without_spaces_at_tags(between).partition("\0"))
        pattern = rf"\s*(.+?)\s*{before}\s*(.*?)\s*{after}\s*" if "\0" in between else rf"\s*(.+?)\s*{before}()\s*"
        if match := re.fullmatch(pattern, _without_spaces_at_tags(head), re.DOTALL):
            return match[1], match[2]
    return head.strip(), ""


def _without_spaces_at_tags(head: str) -> str:
    """The text without white space next to its tags, where it counts for nothing."""
    return re.sub(r"\s*(```\w*|<[^<>]*>|\[[A-Z_]+\])\s*", r"\1", head)


def _text(source: Source) -> Generator[None, None, str]:
    """A JSON string, decoded."""
    if (yield from source.peek()) != '"':
        raise Unreadable("a tool call is no JSON object")
    pieces: list[str] = []
    yield from pass_value(source, pieces.append)
    try:
        return msgspec.json.decode("".join(pieces), type=str)
    except msgspec.DecodeError:
        raise Unreadable("a tool call is no JSON object") from None


def pass_value(source: Source, take: Callable[[str], None]) -> Reading:
    """Read one JSON value, white space before it left out, and give its text to `take` in pieces as they come."""
    if (yield from source.peek()) in '{["':
        yield from _pass_nested(source, take)
    else:
        scalar, end = yield from source.until(_SCALAR_END, _LONGEST_SCALAR)
        source.position -= len(end)
        take(scalar)


def _pass_nested(source: Source, take: Callable[[str], None]) -> Reading:
    depth, is_inside, start = 0, False, source.position
    position = start
    while True:
        char = ""
        while match := (_INSIDE if is_inside else _OUTSIDE).search(source.text, position):
            char, position = match[0], match.end()
            if char == "\\":
                position += 1
            elif char == '"':
                is_inside = not is_inside
            else:
                depth += 1 if char in "{[" else -1
            if depth == 0 and not is_inside:
                take(source.text[start:position])
                source.position = position
                return
            if depth > _DEEPEST:
                raise Unreadable("the arguments of a tool call are nested too deeply")
        skipped = max(0, position - len(source.text))  # of an escape that the next piece ends
        take(source.text[start:])
        source.position = len(source.text)
        yield from source.more()
        start = source.position
        position = start + skipped
