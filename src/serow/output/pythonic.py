"""Calls that look like Python, `add(a=1, b='x')`, or like Gemma's objects, `add{a:1,b:<|"|>x<|"|>}`, made JSON as they come."""

import re
from collections.abc import Generator

from serow.output.calls import Call
from serow.output.format import CallFormat
from serow.output.source import Reading, Source, Unreadable
from serow.output.typed import escaped

_LONGEST_NAME = 400  # characters
_LONGEST_SCALAR = 1000
_DEEPEST = 64  # values within values
_KEY_END = re.compile(r"[=:]")
_SCALAR_END = re.compile(r"[\s,)\]}]")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_PAIRS = {"{": "}", "(": ")", "[": "]"}
_ESCAPES = {"n": "\\n", "t": "\\t", "r": "\\r", "b": "\\b", "f": "\\f", "\\": "\\\\", '"': '\\"', "'": "'", "\n": ""}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([^ux]))", re.DOTALL)
_LONGEST_ESCAPE = 6


def read_pythonic(source: Source, format: CallFormat, call: Call) -> Reading:
    """The name, then arguments by name within brackets."""
    name, _ = yield from source.until(re.compile(re.escape(format.brackets[0])), _LONGEST_NAME)
    call.named(name.strip())
    yield from _Reader(source, format, call).members(format.brackets[1], 0)


class _Reader:
    """Reads values and writes them as JSON."""

    def __init__(self, source: Source, format: CallFormat, call: Call) -> None:
        self._source = source
        self._quote = format.quote
        self._write = call.add

    def members(self, closing: str, depth: int) -> Reading:
        """What stands between brackets as names or keys with their values."""
        self._write("{")
        separator = ""
        while (yield from self._has_next(closing)):
            self._write(separator)
            yield from self._key()
            self._write(": ")
            yield from self._value(depth + 1)
            separator = ", "
        self._write("}")

    def _items(self, closing: str, depth: int) -> Reading:
        self._write("[")
        separator = ""
        while (yield from self._has_next(closing)):
            self._write(separator)
            yield from self._value(depth + 1)
            separator = ", "
        self._write("]")

    def _has_next(self, closing: str) -> Generator[None, None, bool]:
        char = yield from self._source.peek()
        while char == ",":
            self._source.position += 1
            char = yield from self._source.peek()
        if char == closing:
            self._source.position += 1
        return char != closing

    def _key(self) -> Reading:
        char = yield from self._source.peek()
        if char in "'\"" or (yield from self._is_quoted()):
            yield from self._string(char)
            if (yield from self._source.peek()) not in "=:":
                raise Unreadable("an argument of a tool call has no name")
            self._source.position += 1
            return
        key, _ = yield from self._source.until(_KEY_END, _LONGEST_NAME)
        if not key.strip():
            raise Unreadable("an argument of a tool call has no name")
        self._write(f'"{escaped(key.strip())}"')

    def _value(self, depth: int) -> Reading:
        if depth > _DEEPEST:
            raise Unreadable("the arguments of a tool call are nested too deeply")
        char = yield from self._source.peek()
        if char in "'\"" or (yield from self._is_quoted()):
            yield from self._string(char)
        elif char in _PAIRS:
            self._source.position += 1
            yield from (self.members if char == "{" else self._items)(_PAIRS[char], depth)
        else:
            word, end = yield from self._source.until(_SCALAR_END, _LONGEST_SCALAR)
            self._source.position -= len(end)
            self._write(self._scalar(word))

    def _scalar(self, word: str) -> str:
        if word in _WORDS:
            return _WORDS[word]
        if _NUMBER.fullmatch(word):
            return word
        if self._quote and word:
            return f'"{escaped(word)}"'
        raise Unreadable("a value of a tool call is no literal")

    def _is_quoted(self) -> Generator[None, None, bool]:
        return bool(self._quote) and bool((yield from self._source.starts_with((self._quote,))))

    def _string(self, char: str) -> Reading:
        self._write('"')
        if char in "'\"":
            yield from self._python_string(char)
        else:
            self._source.position += len(self._quote)
            yield from self._source.pass_on(self._quote, lambda piece: self._write(escaped(piece)))
        self._write('"')

    def _python_string(self, quote: str) -> Reading:
        source, special = self._source, re.compile(rf"[{quote}\\]")
        source.position += 1
        while True:
            match = special.search(source.text, source.position)
            stop = match.start() if match else len(source.text)
            self._write(escaped(source.text[source.position : stop]))
            source.position = stop
            if match is None:
                yield from source.more()
            elif match[0] == quote:
                source.position += 1
                return
            else:
                yield from self._escape()

    def _escape(self) -> Reading:
        source = self._source
        while True:
            match = _ESCAPE.match(source.text, source.position)
            if match:
                source.position = match.end()
                code = match[1] or (f"00{match[2]}" if match[2] else "")
                self._write(f"\\u{code}" if code else _ESCAPES.get(match[3], f"\\\\{escaped(match[3])}"))
                return
            if len(source.text) - source.position >= _LONGEST_ESCAPE:
                self._write("\\\\")
                source.position += 1
                return
            yield from source.more()
