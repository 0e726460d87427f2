"""Uploads in parts: each goes on where the last one ended, whole or broken off."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serow.errors import Conflict, RequestError
from serow.store import uploads
from serow.store.blobs import Blobs
from serow.store.uploads import Uploads

DATA = bytes(range(256)) * 40
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def sent(*pieces: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if error:
        raise error


async def test_a_blob_comes_in_parts_and_goes_on_where_one_broke_off(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    async with Uploads(blobs) as held:
        assert not await held.add(DIGEST, 0, len(DATA), sent(DATA[:100]))
        with pytest.raises(ConnectionError):
            await held.add(DIGEST, 100, len(DATA), sent(DATA[100:150], error=ConnectionError()))
        assert held.received(DIGEST) == 150 and not blobs.has(DIGEST)
        assert await held.add(DIGEST.replace(":", "-"), 150, len(DATA), sent(DATA[150:]))
        assert held.received(DIGEST) == 0
    assert blobs.path(DIGEST).read_bytes() == DATA and len(files(tmp_path)) == 1


@pytest.mark.parametrize("start", [0, 99, 101])
async def test_a_part_that_begins_elsewhere_is_refused_and_what_is_here_stays(tmp_path: Path, start: int) -> None:
    async with Uploads(Blobs(tmp_path)) as held:
        await held.add(DIGEST, 0, len(DATA), sent(DATA[:100]))
        with pytest.raises(Conflict, match=f"goes on at byte 100, not {start}"):
            await held.add(DIGEST, start, len(DATA), sent(b"x"))
        assert held.received(DIGEST) == 100


async def test_two_tabs_do_not_write_into_one_upload(tmp_path: Path) -> None:
    async with Uploads(Blobs(tmp_path)) as held:

        async def meanwhile() -> AsyncIterator[bytes]:
            with pytest.raises(Conflict, match="another part"):
                await held.add(DIGEST, 0, len(DATA), sent(DATA))
            yield DATA

        assert await held.add(DIGEST, 0, len(DATA), meanwhile())


async def test_nothing_is_kept_of_what_is_not_what_its_digest_says(tmp_path: Path) -> None:
    async with Uploads(Blobs(tmp_path)) as held:
        with pytest.raises(RequestError, match="digest mismatch"):
            await held.add(DIGEST, 0, 3, sent(b"abc"))
        assert held.received(DIGEST) == 0 and not files(tmp_path)


async def test_what_is_longer_than_was_said_is_refused(tmp_path: Path) -> None:
    async with Uploads(Blobs(tmp_path)) as held:
        with pytest.raises(RequestError, match="longer than the 3 bytes"):
            await held.add(DIGEST, 0, 3, sent(b"ab", b"cd"))
        assert held.received(DIGEST) == 0


async def test_only_so_many_are_held_for_so_long_and_all_go_with_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [f"sha256:{number:064x}" for number in range(uploads.MOST + 1)]
    async with Uploads(Blobs(tmp_path)) as held:
        for digest in digests:
            await held.add(digest, 0, 10, sent(b"abc"))
        assert [held.received(digest) for digest in digests] == [0, *[3] * uploads.MOST]
        monkeypatch.setattr(uploads, "IDLE", -1.0)
        await held.add(digests[0], 0, 10, sent(b"abc"))
        assert [held.received(digest) for digest in digests] == [3, *[0] * uploads.MOST]
    assert not files(tmp_path)
