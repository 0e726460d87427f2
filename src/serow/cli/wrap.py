"""Breaking lines between words while text streams in."""

import re

_PIECE = re.compile(r"\n|[^\S\n]|\S+")


class WordWrap:
    """Holds back a word until it is complete and puts it on a new line when it does not fit.

    `width` is in columns of the terminal, 0 leaves the text as it is. `feed(text)` and `flush()` return what may be printed.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._word = ""

    def feed(self, text: str) -> str:
        """Take more text."""
        if not self._width:
            return text
        out = []
        for piece in _PIECE.findall(text):
            if piece.isspace():
                out += [self._place(), self._space(piece)]
            else:
                out += [self._take(character) for character in piece]
        return "".join(out)

    def flush(self) -> str:
        """What is still held back; the next text begins a line."""
        rest, self._column = self._place(), 0
        return rest

    def _take(self, character: str) -> str:
        """A wide character may stand at the end of a line, like a word of its own."""
        if cell_width(character) < 2:
            self._word += character
            return ""
        before = self._place()
        self._word = character
        return before + self._place()

    def _place(self) -> str:
        word, self._word = self._word, ""
        width = cell_width(word)
        is_broken = self._column > 0 and self._column + width > self._width
        self._column = width if is_broken else self._column + width
        return f"\n{word}" if is_broken else word

    def _space(self, space: str) -> str:
        if space == "\n":
            self._column = 0
            return space
        if self._column >= self._width:
            return ""
        self._column += 1
        return space


def fold(text: str, width: int) -> list[str]:
    """The lines of a text that fit into `width` columns, broken between words and, where a word is too long, within it."""
    wrap = WordWrap(width)
    lines = (wrap.feed(text) + wrap.flush()).split("\n")
    return [piece for line in lines for piece in _chopped(line.rstrip(), width)]


def _chopped(word: str, width: int) -> list[str]:
    if word.isascii():
        return [word[start : start + width] for start in range(0, len(word), width)]
    from rich.cells import chop_cells

    return chop_cells(word, width)


def cell_width(text: str) -> int:
    """Columns of the terminal that a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
