"""Long plain texts of a JSON body, such as pictures, taken out before it is parsed and put back afterwards.

A parser goes through a text while everybody waits, and one letter beyond ASCII makes Python hold a whole body at two or four
bytes a character. Without the pictures little is left.
"""

import secrets
from collections.abc import Iterator
from typing import Any

from serow import bounds

_LARGE = 1 << 20  # bytes of a body below which nothing is gained
_LONG = 4 << 10  # bytes of a text that is taken out
_MOST_QUOTES = 100_000  # of a body that is looked through: in one with more of them texts are short
_PIECE = 1 << 20  # bytes that are looked at while nobody else runs
_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))


class LongTexts:
    """What was taken out of one body. `rest` is what is left of it."""

    def __init__(self, body: bytes) -> None:
        """Raises RequestError when too much is left that is not plain."""
        self._mark = f"serow-{secrets.token_hex(16)}-"
        self._texts: list[bytes] = []
        self.rest = body
        if len(body) > _LARGE:
            if body.count(b'"') <= _MOST_QUOTES:
                self.rest = b'"'.join(self._without_texts(body.split(b'"')))
            if not self.rest.isascii():
                bounds.LETTERS.check(len(self.rest), "the request body")

    def _without_texts(self, parts: list[bytes]) -> Iterator[bytes]:
        """What stands between quotes, a mark in the place of each long text that is a value."""
        is_inside = goes_on = False  # a text, and one that a quote within it has not ended
        for number, part in enumerate(parts):
            is_value = is_inside and not goes_on and not parts[min(number + 1, len(parts) - 1)].lstrip().startswith(b":")
            if is_value and len(part) >= _LONG and _is_plain(part):
                yield self._mark_of(len(self._texts))
                self._texts.append(part)
            else:
                yield part
            goes_on = is_inside and (len(part) - len(part.rstrip(b"\\"))) % 2 == 1
            is_inside = goes_on or not is_inside

    def _mark_of(self, number: int) -> bytes:
        return f"{self._mark}{number}".encode()

    def num_left_out(self, before: str) -> int:
        """How many characters of the body are missing in the beginning of `rest`."""
        num_marks = before.count(self._mark) if self._texts else 0
        return sum(len(each) - len(self._mark_of(number)) for number, each in enumerate(self._texts[:num_marks]))

    def put_back(self, value: Any) -> None:
        """Put the texts into a parsed object or list, where their marks are."""
        left = [value] if self._texts else []
        while left:
            node = left.pop()
            for key, item in node.items() if isinstance(node, dict) else enumerate(node):
                if isinstance(item, str):
                    if item.startswith(self._mark):
                        node[key] = self._texts[int(item.removeprefix(self._mark))].decode("ascii")
                elif isinstance(item, (dict, list)):
                    left.append(item)


def _is_plain(text: bytes) -> bool:
    """Whether JSON has it as it is, in one byte a character."""
    return not any(text[start : start + _PIECE].translate(None, _PLAIN) for start in range(0, len(text), _PIECE))
