import errno
import hashlib
import os
from pathlib import Path

import pytest

from serow.errors import ModelFileError, RequestError, StoreError
from serow.store.blobs import Blobs, disk_errors, sweep, write_atomic

HELLO = f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
NOTHING = "sha256:" + "0" * 64


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def files(blobs: Blobs) -> list[str]:
    return sorted(path.name for path in blobs.root.iterdir())


@pytest.mark.parametrize(
    "digest",
    (
        *("", "sha256:", "sha256:xyz", "sha256:../../x", f"sha256:{'0' * 63}", f"sha256:{'0' * 65}", f"sha256:{'G' * 64}"),
        *(f"md5:{'0' * 64}", f"{NOTHING}\n", f"sha256/{'0' * 64}", f"../{'0' * 64}", f"sha256:{'٠' * 64}"),
    ),
)
def test_what_is_no_digest_never_becomes_a_path(blobs: Blobs, digest: str) -> None:
    with pytest.raises(ModelFileError, match=r"^invalid digest format$"):
        blobs.path(digest)


@pytest.mark.parametrize("digest", [HELLO, HELLO.replace(":", "-")])
def test_a_blob_is_named_after_its_digest(blobs: Blobs, digest: str) -> None:
    assert blobs.put(b"hello") == (HELLO, True)
    assert blobs.put(b"hello") == (HELLO, False)
    assert blobs.path(digest).read_bytes() == b"hello"
    assert blobs.size(digest) == 5


async def test_a_blob_is_written_in_pieces(blobs: Blobs) -> None:
    async with blobs.writer(HELLO) as writer:
        for piece in (b"he", b"", b"llo"):
            await writer.write(piece)
        assert not blobs.has(HELLO)
    assert (writer.digest, writer.size) == (HELLO, 5)
    assert files(blobs) == [HELLO.replace(":", "-")]


async def test_a_large_blob_is_hashed_whole(blobs: Blobs) -> None:
    data = os.urandom(1 << 16) * 50
    async with blobs.writer() as writer:
        for start in range(0, len(data), 100_000):
            await writer.write(data[start : start + 100_000])
    assert writer.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert blobs.path(writer.digest).read_bytes() == data


async def test_a_mismatch_is_told_and_leaves_nothing(blobs: Blobs) -> None:
    with pytest.raises(RequestError) as raised:
        async with blobs.writer(NOTHING) as writer:
            await writer.write(b"hello")
    assert str(raised.value) == f'digest mismatch, expected "{NOTHING}", got "{HELLO}"'
    assert files(blobs) == []


async def test_a_writer_that_is_interrupted_leaves_nothing(blobs: Blobs) -> None:
    with pytest.raises(ConnectionError):
        async with blobs.writer(HELLO) as writer:
            await writer.write(b"he")
            raise ConnectionError
    assert files(blobs) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
async def test_a_full_disk_is_told_without_a_path_and_leaves_a_valid_store(blobs: Blobs) -> None:
    blobs.put(b"hello")
    with pytest.raises(StoreError, match=r"^no space left on the disk of the model store$"):
        async with blobs.writer() as writer:
            await writer.write(b"more")
            writer._partial._file.close()
            writer._partial._file = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering=0)
    assert files(blobs) == [HELLO.replace(":", "-")]


def test_a_failing_disk_is_told_in_words() -> None:
    with pytest.raises(StoreError, match=r"^the model store failed: permission denied$"), disk_errors():
        raise PermissionError(errno.EACCES, "x", "/home/somebody/secret")


def test_a_blob_above_its_limit_is_not_read(blobs: Blobs) -> None:
    digest, _ = blobs.put(b"x" * 100)
    assert len(blobs.read(digest, 100)) == 100
    with pytest.raises(ModelFileError, match="larger than 99 bytes"):
        blobs.read(digest, 99)


def test_a_file_is_copied_in(blobs: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"hello")
    assert blobs.add(source) == HELLO
    source.write_bytes(b"changed")
    assert blobs.path(HELLO).read_bytes() == b"hello"


def test_a_small_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_atomic(path, b"old")
    with path.open("rb") as before:
        write_atomic(path, b"new")
        assert before.read() == b"old"
    assert path.read_bytes() == b"new"
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_partial_files_are_swept_when_a_day_old(blobs: Blobs) -> None:
    blobs.put(b"hello")
    foreign = blobs.root / f"sha256-{'1' * 64}-partial"  # a download of Ollama's: not ours to remove
    old, new = (blobs.root / f".serow-{age}00000-partial" for age in ("old", "new"))
    for path in (old, new, foreign):
        path.touch()
    os.utime(old, (1000, 1000))
    os.utime(foreign, (1000, 1000))
    assert sweep(blobs.root) == 1
    assert files(blobs) == sorted([new.name, HELLO.replace(":", "-"), foreign.name])
