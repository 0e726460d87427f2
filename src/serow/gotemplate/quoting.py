"""Go's string and character literals: quoting and unquoting as package strconv does it."""

import re

from serow.gotemplate.values import decode, is_invalid_byte, join_escapes

_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.)|)", re.DOTALL)
_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_UNESCAPES = {escape[1]: char for char, escape in _ESCAPES.items()} | {"\\": "\\"}


def quote(text: str, mark: str = '"', *, ascii_only: bool = False) -> str:
    """A Go literal of the text; `mark` is the quotation mark."""
    table = {ord(char): _escape(char, mark, ascii_only) for char in set(text)}
    return f"{mark}{text.translate(table)}{mark}"


def _escape(char: str, mark: str, ascii_only: bool) -> str:
    code = ord(char)
    if char in (mark, "\\"):
        return "\\" + char
    if is_invalid_byte(char):
        return f"\\x{code & 0xFF:02x}"
    if char.isprintable() and (code < 0x80 or not ascii_only):
        return char
    if char in _ESCAPES:
        return _ESCAPES[char]
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def can_backquote(text: str) -> bool:
    """Whether the text can stand between backquotes unchanged."""
    return not any(c in "`\x7f\ufeff" or (c < " " and c != "\t") or is_invalid_byte(c) for c in set(text))


def rune_name(char: str) -> str:
    """A character as `%#U` shows it: `U+0041 'A'`."""
    return f"U+{ord(char):04X}" + (f" '{char}'" if char.isprintable() else "")


def unquote(literal: str) -> str:
    """The text of a literal in double quotes or backquotes; raises ValueError in Go's words."""
    body = literal[1:-1]
    if literal[0] == "`":
        return body.replace("\r", "")
    return join_escapes(_ESCAPE.sub(lambda match: _unescape(match, literal[0]), body))


def unquote_rune(literal: str) -> int:
    """The code of a character literal such as `'a'`; raises ValueError in Go's words."""
    body = literal[1:-1]
    match = _ESCAPE.match(body)
    char, rest = (_unescape(match, "'"), body[match.end() :]) if match else (body[:1], body[1:])
    if not char:
        raise ValueError("invalid syntax")
    if rest:
        raise ValueError(f"malformed character constant: {literal}")
    return ord(char) & 0xFF if is_invalid_byte(char) else ord(char)


def _unescape(match: re.Match[str], mark: str) -> str:
    """The character, or invalid byte, that an escape stands for."""
    byte, octal, short, long, letter = match.groups()
    if letter == mark or letter in _UNESCAPES:
        return _UNESCAPES.get(letter, mark)
    number = int(octal, 8) if octal else int(byte or short or long or "0", 16)
    if (byte or octal) and number <= 0xFF:
        return decode(bytes([number]))
    if (short or long) and number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF:
        return chr(number)
    raise ValueError("invalid syntax")
