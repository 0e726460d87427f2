"""The parts of a blob that is being fetched: which are whole, how much of the others is there."""

import hashlib
from collections.abc import Iterator

SMALL_PART, LARGE_PART = 32 << 20, 64 << 20  # bytes
_LARGE_BLOB = 8 << 30  # bytes from which on parts are large


def part_size(size: int) -> int:
    """Bytes of each part but the last of a blob."""
    return LARGE_PART if size >= _LARGE_BLOB else SMALL_PART


class Part:
    """A part that is on its way. Offsets in bytes of the blob."""

    def __init__(self, number: int, start: int, length: int) -> None:
        self.number = number
        self.start = start
        self.length = length
        self.have = 0
        self.sha256 = hashlib.sha256()

    @property
    def first(self) -> int:
        """The first byte that is not here."""
        return self.start + self.have

    @property
    def last(self) -> int:
        """The last byte of the part."""
        return self.start + self.length - 1

    @property
    def is_whole(self) -> bool:
        """Whether all bytes are here."""
        return self.have == self.length


class Parts:
    """Which parts of a blob are whole: a byte for each, however large the blob."""

    def __init__(self, size: int, part_size: int) -> None:
        self.size = size
        self.part_size = part_size
        self._whole = bytearray(-(-size // part_size))
        self._next = 0
        self.completed = 0  # bytes that are here, of whole parts and of those on their way

    def __len__(self) -> int:
        return len(self._whole)

    def part(self, number: int) -> Part:
        """A part of which nothing is here."""
        start = number * self.part_size
        return Part(number, start, min(self.part_size, self.size - start))

    def is_whole(self, number: int) -> bool:
        """Whether all bytes of a part are here."""
        return bool(self._whole[number])

    def keep(self, part: Part) -> None:
        """A part was whole before: its bytes count as here."""
        if not self._whole[part.number]:
            self._whole[part.number] = 1
            self.completed += part.length

    def arrived(self, part: Part, count: int) -> None:
        """So many more bytes of a part are here."""
        part.have += count
        self.completed += count
        if part.is_whole:
            self._whole[part.number] = 1

    def missing(self) -> Iterator[Part]:
        """The parts that are not whole, in order; those that share the iteration get each part once."""
        while self._next < len(self._whole):
            number, self._next = self._next, self._next + 1
            if not self._whole[number]:
                yield self.part(number)
