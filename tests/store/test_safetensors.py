import json
from pathlib import Path

import pytest

from serow.errors import ModelFileError
from serow.store.safetensors import count_types, read_shapes


def write(path: Path, header: object, data: bytes = b"\0" * 32, length: int | None = None) -> Path:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(head) if length is None else length).to_bytes(8, "little") + head + data)
    return path


def tensor(dtype: str = "F16", shape: tuple[int, ...] = (2, 4), start: int = 0, end: int = 16) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": (start, end)}


def test_numbers_are_counted_by_type(tmp_path: Path) -> None:
    header = {"__metadata__": {"format": "pt"}, "a": tensor(), "b": tensor("F32", (3,), 16, 28), "c": tensor("F16", (), 28, 30)}
    assert count_types(read_shapes(write(tmp_path / "x", header))) == {"F16": 9, "F32": 3}


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xff",
        b"[" * 100_000,
        {"a": 5},
        {"a": tensor(end=33)},
        {"a": tensor(start=16, end=8)},
        {"a": tensor(start=-8)},
        {"a": tensor(shape=(3, 4))},
        {"a": tensor(shape=(-2, -4))},
        {"a": tensor(shape=(1 << 62, 1 << 62))},
        {"a": tensor("X9", (1 << 62, 1 << 62))},
        {"a": tensor(shape=(10**400,))},
        {"a": tensor(shape=(1,) * 1_000_000)},
        {"a": tensor("X9", (9,) * 1_000_000)},
    ],
    ids=lambda header: repr(header)[:60],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: object) -> None:
    with pytest.raises(ModelFileError, match="safetensors file is broken"):
        read_shapes(write(tmp_path / "x", header))


@pytest.mark.parametrize("length", [0, 100, 1 << 40, (1 << 64) - 1])
def test_a_length_beyond_the_file_is_refused_before_it_is_read(tmp_path: Path, length: int) -> None:
    with pytest.raises(ModelFileError, match="longer than the file"):
        read_shapes(write(tmp_path / "x", {}, b"", length))
