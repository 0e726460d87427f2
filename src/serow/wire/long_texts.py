"""Long texts of a JSON body, such as pictures, taken out before it is parsed, and read and put back afterwards.

A parser goes through all of a body while everybody waits, and one letter beyond ASCII makes Python hold it at two or four bytes
a character. Without its long texts little is left. A large body is only ever looked at piece by piece, a millisecond each.
"""

import json
import re
import secrets
from collections.abc import Iterator
from typing import Any

from serow import bounds
from serow.errors import RequestError

_LARGE = 1 << 20  # bytes of a body below which nothing is gained
_LONG = 512  # bytes of a text that is taken out
_PIECE = 256 << 10  # bytes that are looked at while nobody else runs
_MOST_SPACE = 4 << 10  # bytes between a text and the colon that would make it a name
_NAME = "the request body"
_FOLLOWING = bytes(range(0x80, 0xC0))  # bytes of UTF-8 that begin no character
_DECODER = json.JSONDecoder()
_SURROGATE = re.compile("[\ud800-\udfff]")
_FIRST_HALF = re.compile(rb"\\u[dD][89abAB]..", re.DOTALL)


class LongTexts:
    """What was taken out of one body. `rest` is what is left of it."""

    def __init__(self, body: bytes) -> None:
        """Raises RequestError when too much is left, or too much is escaped."""
        self._mark = f"serow-{secrets.token_hex(16)}-"
        self._body = body
        self._places: list[tuple[int, int]] = []
        self.rest = body
        self._num_letters = 0  # bytes of texts that are not plain ASCII
        if len(body) > _LARGE:
            self.rest = self._without_texts()
            self._num_letters = 0 if self.rest.isascii() else len(self.rest)

    def _without_texts(self) -> bytes:
        """The body with a mark in the place of each long text that is a value."""
        kept = list[bytes]()
        done = size = num_quotes = 0  # bytes of the body that are dealt with, bytes that are kept
        opened = -1  # where a text begins, -1 outside
        for begin, piece in _masked(self._body):
            quote = piece.find(b'"')
            while quote >= 0:
                place, num_quotes = begin + quote, num_quotes + 1
                if opened >= 0 and place - opened >= _LONG and self._is_value(place):
                    kept += [self._body[done:opened], self._mark_of(len(self._places))]
                    size, done = size + opened - done, place
                    self._places.append((opened, place))
                opened = place + 1 if opened < 0 else -1
                quote = piece.find(b'"', quote + 1)
            bounds.TEXTS.check(num_quotes // 2, _NAME)
            bounds.REST.check(size + max(0, (opened if opened >= 0 else begin + len(piece)) - done), _NAME)
        bounds.REST.check(size + len(self._body) - done, _NAME)
        return b"".join([*kept, self._body[done:]])

    def _is_value(self, end: int) -> bool:
        behind = self._body[end + 1 : end + 1 + _MOST_SPACE].lstrip(b" \t\r\n")
        return bool(behind) and not behind.startswith(b":")

    def _mark_of(self, number: int) -> bytes:
        return f"{self._mark}{number}".encode()

    def num_left_out(self, before: str, *, in_bytes: bool = False) -> int:
        """How many characters, or bytes, of the body are missing in the beginning of `rest`."""
        num_marks = before.count(self._mark) if self._places else 0
        size = (lambda start, end: end - start) if in_bytes else self._num_characters
        return sum(size(*place) - len(self._mark_of(number)) for number, place in enumerate(self._places[:num_marks]))

    def put_back(self, value: Any) -> None:
        """Put the texts into a parsed object or list, where their marks are; raises RequestError for one that is none."""
        left = [value] if self._places else []
        while left:
            node = left.pop()
            for key, item in node.items() if isinstance(node, dict) else enumerate(node):
                if isinstance(item, str):
                    if item.startswith(self._mark):
                        node[key] = self._text(*self._places[int(item.removeprefix(self._mark))])
                elif isinstance(item, (dict, list)):
                    left.append(item)

    def _text(self, start: int, end: int) -> str:
        size, texts = end - start, list[str]()
        while start < end:
            stop = min(end, start + _PIECE)
            piece = self._body[start:stop]
            if stop < end:
                piece = piece[: _last_gap(piece)] or piece
            texts.append(self._read(piece, start))
            start += len(piece)
        if not all(map(str.isascii, texts)):
            self._num_letters += min(size, 4 * sum(map(len, texts)))  # escaped, a letter takes six
            bounds.LETTERS.check(self._num_letters, _NAME)
        return "".join(texts)

    def _read(self, piece: bytes, start: int) -> str:
        """What a piece of a text says, which begins at the byte `start` of the body."""
        try:
            text, _ = _DECODER.raw_decode(f'"{piece.decode()}"')
        except UnicodeDecodeError as error:
            raise RequestError(f"{_NAME} is not valid UTF-8 at byte {start + error.start}") from None
        except json.JSONDecodeError as error:
            raise not_json(error.msg, self._num_characters(0, start) + error.pos - 1) from None
        return without_surrogates(text)

    def _num_characters(self, start: int, end: int) -> int:
        pieces = (self._body[place : min(end, place + _PIECE)] for place in range(start, end, _PIECE))
        return sum(len(piece.translate(None, _FOLLOWING)) for piece in pieces)


def not_json(fault: str, place: int) -> RequestError:
    """A body that is not JSON at a character."""
    return RequestError(f"{_NAME} is not valid JSON: {fault[:1].lower()}{fault[1:]} at character {place}")


def without_surrogates(text: str) -> str:
    """U+FFFD for every lone surrogate."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _masked(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Pieces in which every quote opens or ends a text, and where each begins; raises RequestError for too many escapes."""
    cut, num_escapes = b"", 0
    for start in range(0, len(body), _PIECE):
        piece = body[start : start + _PIECE]
        num_escapes += piece.count(b"\\")
        bounds.ESCAPES.check(num_escapes, _NAME)
        begin, piece = start - len(cut), cut + piece
        whole = piece.rstrip(b"\\")
        cut = b"\\" * ((len(piece) - len(whole)) % 2)  # of an escape that goes on in the next piece; pairs are no matter
        yield begin, whole.replace(rb"\\", b"__").replace(rb"\"", b"__")


def _last_gap(piece: bytes) -> int:
    """Where to cut a piece of a text: near its end, between two characters, however they are written."""
    end = len(piece)
    last = piece.rfind(b"\\", end - 5)
    if last >= 0 and _begins_escape(piece, last):
        end = last
    if _FIRST_HALF.fullmatch(piece, max(0, end - 6), end) and _begins_escape(piece, end - 6):
        end -= 6
    first = next((end - back for back in range(1, 5) if end >= back and piece[end - back] & 0xC0 != 0x80), end)
    return first if first < end and piece[first] >= 0xC0 else end


def _begins_escape(piece: bytes, place: int) -> bool:
    """Whether the backslash there is not itself escaped."""
    return (place + 1 - len(piece[: place + 1].rstrip(b"\\"))) % 2 == 1
