"""The arrays of a GGUF file as they lie in it: looked through, compared and copied without being built."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from serow.errors import ModelFileError
from serow.store.blobs import disk_errors
from serow.store.gguf import STRING, U64, Array

_INT32 = struct.Struct("<i")


def find_strings(path: Path, array: Array, choices: Sequence[tuple[str, ...]]) -> tuple[int, ...] | None:
    """Which strings of an array are those of the first choice that is wholly there; None when none is. Raises StoreError."""
    data = _data(path, array)
    for choice in choices:
        starts = [data.find(U64.pack(len(text.encode())) + text.encode()) for text in choice]
        places = dict(_places(data, array.count, set(starts))) if min(starts) >= 0 else {}
        if places.keys() == set(starts):
            return tuple(places[start] for start in starts)
    return None


def elements(path: Path, array: Array, places: Sequence[int]) -> bytes:
    """An array of strings or 32-bit numbers as it lies in the file, with the elements of some places only, which ascend.

    Raises ModelFileError for an array of anything else, StoreError.
    """
    kind, data = _raw(path, array)
    if kind == STRING:
        wanted, last, at, found = set(places), max(places, default=-1), 0, list[bytes]()
        for place in range(last + 1):
            end = at + 8 + U64.unpack_from(data, at)[0]
            if place in wanted:
                found.append(data[at:end])
            at = end
    elif len(data) == array.count * _INT32.size:
        found = [data[place * 4 : place * 4 + 4] for place in places]
    else:
        raise ModelFileError("the file's vocabulary is of an unknown type")
    return struct.pack("<IQ", kind, len(found)) + b"".join(found)


def _data(path: Path, array: Array) -> bytes:
    """An array's elements as they lie in the file; raises StoreError."""
    with disk_errors(), path.open("rb") as file:
        file.seek(array.start)
        return file.read(array.end - array.start)


def _raw(path: Path, array: Array) -> tuple[int, bytes]:
    """The type of an array's elements, and these as they lie in the file; raises StoreError."""
    with disk_errors(), path.open("rb") as file:
        file.seek(array.start - 12)  # its type and count stand before it
        (kind,), data = struct.unpack("<I8x", file.read(12)), file.read(array.end - array.start)
    return kind, data


def begin_alike(one: Path, tokens: Array, other: Path, others: Array, skipped: int) -> bool:
    """Whether two arrays hold the same strings up to the end of the shorter one, but for the first ones. Raises StoreError."""
    first, second = [_behind(path, array, skipped) for path, array in ((one, tokens), (other, others))]
    return first.startswith(second) if len(second) < len(first) else second.startswith(first)


def _behind(path: Path, array: Array, skipped: int) -> bytes:
    """An array of strings as it lies in the file, without the first ones."""
    kind, data = _raw(path, array)
    if kind != STRING:
        raise ModelFileError("the file's vocabulary is of an unknown type")
    at = 0
    for _ in range(min(skipped, array.count)):
        at += U64.size + U64.unpack_from(data, at)[0]
    return data[at:]


def find_numbers(path: Path, array: Array, wanted: Sequence[int]) -> frozenset[int]:
    """Where an array of 32-bit numbers has one of those that are wanted; nowhere in any other array. Raises StoreError."""
    if array.end - array.start != array.count * _INT32.size:
        return frozenset()
    data = _data(path, array)
    return frozenset(place for number in wanted for place in _aligned(data, _INT32.pack(number)))


def _aligned(data: bytes, number: bytes) -> Iterator[int]:
    """Which numbers of an array are this one: far faster than to look at each, since few are."""
    at = data.find(number)
    while at >= 0:
        if at % len(number) == 0:
            yield at // len(number)
        at = data.find(number, at + 1)


def _places(data: bytes, count: int, starts: set[int]) -> Iterator[tuple[int, int]]:
    """For each wanted start of a string: the start and which string of the array it is."""
    at, last = 0, max(starts)
    for place in range(count):
        if at in starts:
            yield at, place
        if at >= last:
            return
        at += U64.size + U64.unpack_from(data, at)[0]
