"""Go's string and character literals: quoting and unquoting as package strconv does it."""

from serow.template.values import decode, encode, replace_invalid

_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_UNESCAPES = {escape[1]: char for char, escape in _ESCAPES.items()} | {"\\": "\\"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}


def quote(text: str, mark: str = '"', *, ascii_only: bool = False) -> str:
    """A Go literal of the text; `mark` is the quotation mark."""
    table = {ord(char): _escape(char, mark, ascii_only) for char in set(text)}
    return f"{mark}{text.translate(table)}{mark}"


def _escape(char: str, mark: str, ascii_only: bool) -> str:
    code = ord(char)
    if char in (mark, "\\"):
        return "\\" + char
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable() and (code < 0x80 or not ascii_only):
        return char
    if char in _ESCAPES:
        return _ESCAPES[char]
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def can_backquote(text: str) -> bool:
    """Whether the text can stand between backquotes unchanged."""
    return not any(c in "`\x7f\ufeff" or (c < " " and c != "\t") or "\udc80" <= c <= "\udcff" for c in set(text))


def rune_name(char: str) -> str:
    """A character as `%#U` shows it: `U+0041 'A'`."""
    return f"U+{ord(char):04X}" + (f" '{char}'" if char.isprintable() else "")


def unquote(literal: str) -> str:
    """The text of a literal in double quotes or backquotes; raises ValueError in Go's words."""
    body = literal[1:-1]
    if literal[0] == "`":
        return body.replace("\r", "")
    if "\\" not in body:
        return body
    data = bytearray()
    while body:
        char, body = unquote_char(body, literal[0])
        data += char
    return decode(bytes(data))


def unquote_char(text: str, mark: str) -> tuple[bytes, str]:
    """The first character of a literal's inside as bytes, and the rest; raises ValueError in Go's words."""
    if text[:1] == mark:
        raise ValueError("invalid syntax")
    if text[0] != "\\":
        return encode(text[0]), text[1:]
    letter, rest = text[1:2], text[2:]
    if letter in _UNESCAPES and letter:
        return _UNESCAPES[letter].encode(), rest
    if letter == mark:
        return mark.encode(), rest
    if letter in _HEX_DIGITS and letter:
        count = _HEX_DIGITS[letter]
        return _from_code(_number(rest[:count], 16, count), letter == "x"), rest[count:]
    return _from_code(_number(text[1:4], 8, 3), True), text[4:]


def _number(digits: str, base: int, count: int) -> int:
    if len(digits) != count or not all(digit in "0123456789abcdefABCDEF"[: 22 if base == 16 else 8] for digit in digits):
        raise ValueError("invalid syntax")
    return int(digits, base)


def _from_code(code: int, is_byte: bool) -> bytes:
    if is_byte:
        if code > 0xFF:
            raise ValueError("invalid syntax")
        return bytes([code])
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise ValueError("invalid syntax")
    return chr(code).encode()


def unquote_rune(literal: str) -> int:
    """The code of a character literal such as `'a'`; raises ValueError in Go's words."""
    body = literal[1:-1]
    if not body:
        raise ValueError("invalid syntax")
    char, rest = unquote_char(body, "'")
    if rest:
        raise ValueError(f"malformed character constant: {literal}")
    is_byte_escape = body[0] == "\\" and body[1:2] in "x01234567"
    return char[0] if is_byte_escape else ord(replace_invalid(decode(char)))
