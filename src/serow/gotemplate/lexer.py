"""Tokens of Go's text/template, one at a time, so that the parser meets errors in the order of the source."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from serow.gotemplate.quoting import quote, rune_name
from serow.gotemplate.values import encode

_WORDS = frozenset({"block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"})
KEYWORDS = _WORDS | {"."}

_SPACE = " \t\r\n"
_LEFT_TRIM = re.compile(r"\{\{-[ \t\r\n]")
_RIGHT = re.compile(r"([ \t\r\n]-)?\}\}")
_ANY_SPACES = re.compile(r"[ \t\r\n]*")
_SPACES = re.compile(r"[ \t\r\n]+(?!-\}\})")
_QUOTED = {
    '"': re.compile(r'"(?:\\[^\n]|[^"\\\n])*"'),
    "'": re.compile(r"'(?:\\[^\n]|[^'\\\n])*'"),
    "`": re.compile(r"`[^`]*`"),
}
_QUOTED_KINDS = {
    '"': ("string", "unterminated quoted string"),
    "'": ("char constant", "unterminated character constant"),
    "`": ("string", "unterminated raw quoted string"),
}
_NUMBER = re.compile(
    r"""[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?
      | 0[oO][0-7_]*(?:\.[0-7_]*)?
      | 0[bB][01_]*(?:\.[01_]*)?
      | [0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """A token. `kind` is a keyword itself, or text, left, right, space, field, variable, identifier, bool, string,
    char constant, number, complex, declare, assign, pipe, (, ), char, error or eof."""

    kind: str
    pos: int
    text: str
    line: int

    def __str__(self) -> str:
        if self.kind in ("eof", "error"):
            return self.text
        if self.kind in KEYWORDS:
            return f"<{self.text}>"
        return f"{quote(self.text[:10])}..." if len(encode(self.text)) > 10 else quote(self.text)


class _SyntaxError(Exception):
    """Ends the scan: what is wrong, and where the broken token starts."""

    def __init__(self, message: str, pos: int) -> None:
        super().__init__(message)
        self.pos = pos


def lex(text: str) -> Iterator[Token]:
    """Yield the tokens of a template; the last one is of kind eof or error."""
    return _Lexer(text).tokens()


class _Lexer:
    def __init__(self, text: str) -> None:
        self._text = text
        self._pos = 0
        self._counted = 0  # up to where newlines are in _line
        self._line = 1

    def tokens(self) -> Iterator[Token]:
        try:
            while self._pos < len(self._text):
                yield from self._outside()
        except _SyntaxError as error:
            yield self._token("error", error.pos, str(error))
            return
        yield self._token("eof", self._pos, "EOF")

    def _token(self, kind: str, pos: int, text: str) -> Token:
        self._line += self._text.count("\n", self._counted, pos)
        self._counted = pos
        return Token(kind, pos, text, self._line)

    def _emit(self, kind: str, end: int) -> Token:
        """The token from the current position to `end`."""
        pos, self._pos = self._pos, end
        return self._token(kind, pos, self._text[pos:end])

    def _outside(self) -> Iterator[Token]:
        """Text up to the next action, then that action or comment."""
        start = self._text.find("{{", self._pos)
        if start < 0:
            yield self._emit("text", len(self._text))
            return
        text = self._text[self._pos : start]
        if _LEFT_TRIM.match(self._text, start):
            text = text.rstrip(_SPACE)
        if text:
            yield self._token("text", self._pos, text)
        self._pos = start
        body = self._skip_trim_marker(start)
        if self._text.startswith("/*", body):
            self._comment(body)
            return
        yield self._emit("left", start + 2)
        self._pos = body
        yield from self._inside()

    def _skip_trim_marker(self, start: int) -> int:
        return start + (4 if _LEFT_TRIM.match(self._text, start) else 2)

    def _comment(self, start: int) -> None:
        end = self._text.find("*/", start + 2)
        if end < 0:
            raise _SyntaxError("unclosed comment", start)
        right = _RIGHT.match(self._text, end + 2)
        if right is None:
            raise _SyntaxError("comment ends before closing delimiter", start)
        self._leave(right)

    def _leave(self, right: re.Match[str]) -> None:
        """Go on behind a right delimiter, and behind spaces if it trims them."""
        self._pos = right.end()
        if right[1]:
            self._pos = self._end(_ANY_SPACES)

    def _inside(self) -> Iterator[Token]:
        """The tokens of an action, its right delimiter included."""
        depth = 0
        while True:
            right = _RIGHT.match(self._text, self._pos)
            if right and depth:
                raise _SyntaxError("unclosed left paren", self._pos)
            if right:
                yield self._token("right", right.end() - 2, "}}")
                self._leave(right)
                return
            token = self._item()
            depth += (token.kind == "(") - (token.kind == ")")
            if depth < 0:
                raise _SyntaxError("unexpected right paren", token.pos)
            yield token

    def _item(self) -> Token:
        """One token inside an action."""
        start, text = self._pos, self._text
        if start >= len(text):
            raise _SyntaxError("unclosed action", start)
        char, following = text[start], text[start + 1 : start + 2]
        if char in _SPACE:
            return self._emit("space", self._end(_SPACES))
        if char in _QUOTED:
            return self._quoted(char)
        if char == ":":
            if following != "=":
                raise _SyntaxError("expected :=", start)
            return self._emit("declare", start + 2)
        if char in "=|()":
            return self._emit({"=": "assign", "|": "pipe"}.get(char, char), start + 1)
        if char == "$" or (char == "." and not "0" <= following <= "9"):
            return self._field_or_variable(char)
        if char in "+-." or "0" <= char <= "9":
            return self._number()
        if _is_alphanumeric(char):
            return self._identifier()
        if not (char.isascii() and char.isprintable()):
            raise _SyntaxError(f"unrecognized character in action: {rune_name(char)}", start)
        return self._emit("char", start + 1)

    def _end(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._pos)
        assert match is not None
        return match.end()

    def _quoted(self, mark: str) -> Token:
        kind, complaint = _QUOTED_KINDS[mark]
        match = _QUOTED[mark].match(self._text, self._pos)
        if match is None:
            raise _SyntaxError(complaint, self._pos)
        return self._emit(kind, match.end())

    def _word_end(self, pos: int) -> int:
        """The end of the run of letters and digits at `pos`, which must be followed by something that may follow a word."""
        text = self._text
        while pos < len(text) and _is_alphanumeric(text[pos]):
            pos += 1
        if not (pos >= len(text) or text[pos] in " \t\r\n.,|:)(" or text.startswith("}}", pos)):
            raise _SyntaxError(f"bad character {rune_name(text[pos])}", self._pos)
        return pos

    def _field_or_variable(self, char: str) -> Token:
        end = self._word_end(self._pos + 1)
        if char == "$":
            return self._emit("variable", end)
        return self._emit("." if end == self._pos + 1 else "field", end)

    def _identifier(self) -> Token:
        end = self._word_end(self._pos)
        word = self._text[self._pos : end]
        if word in _WORDS:
            return self._emit(word, end)
        return self._emit("bool" if word in ("true", "false") else "identifier", end)

    def _number(self) -> Token:
        end = self._number_end(self._pos)
        if self._text[end : end + 1] not in ("+", "-"):
            return self._emit("number", end)
        end = self._number_end(end)
        if self._text[end - 1] != "i":
            raise self._bad_number(end)
        return self._emit("complex", end)

    def _number_end(self, pos: int) -> int:
        match = _NUMBER.match(self._text, pos)
        assert match is not None
        end = match.end()
        if end < len(self._text) and _is_alphanumeric(self._text[end]):
            raise self._bad_number(end + 1)
        return end

    def _bad_number(self, end: int) -> _SyntaxError:
        return _SyntaxError(f"bad number syntax: {quote(self._text[self._pos : end])}", self._pos)


def _is_alphanumeric(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdecimal()
