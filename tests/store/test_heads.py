"""Heads of model files are read elsewhere while a server runs."""

import asyncio
import struct
import time
from contextlib import suppress
from pathlib import Path

import pytest

from serow.errors import ModelFileError
from serow.store import heads, weights
from serow.store.heads import Heads
from serow.workers.pool import Limits, Pool
from tests.store.files import MODEL, gguf_file


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def large_head(path: Path, count: int) -> Path:
    """A GGUF whose vocabulary has so many words of fifty characters."""
    entries = [
        string(b"general.architecture") + struct.pack("<I", 8) + string(b"llama"),
        string(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, count) + string(b"x" * 50) * count,
    ]
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + b"".join(entries))
    return path


async def test_what_a_file_says_is_the_same_wherever_it_is_read(zoo: Path) -> None:
    async with Pool() as pool:
        assert await asyncio.to_thread(Heads(pool).describe, zoo / "zoo-think.gguf") == weights.describe(zoo / "zoo-think.gguf")


async def test_the_loop_runs_on_while_a_large_head_is_read(tmp_path: Path) -> None:
    path = large_head(tmp_path / "large.gguf", 1_000_000)
    async with Pool() as pool:
        reading = asyncio.create_task(asyncio.to_thread(Heads(pool).describe, path))
        longest, last = 0.0, time.monotonic()
        while not reading.done():
            await asyncio.sleep(0.002)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        assert (await reading).vocab_size == 1_000_000
    assert longest < 0.1


async def test_a_head_that_takes_too_long_is_the_file_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "LIMITS", Limits(cpu=0.05, memory=480 << 20))
    path = large_head(tmp_path / "large.gguf", 1_000_000)
    async with Pool() as pool:
        with pytest.raises(ModelFileError, match="the work on its head took too much time"):
            await asyncio.to_thread(Heads(pool).describe, path)


def test_what_is_remembered_of_files_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_MOST_REMEMBERED", 250_000)
    reader = Heads()
    for number in range(5):
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(gguf_file([*MODEL.items(), ("tokenizer.chat_template", "x" * 100_000)]))
        reader.describe(path)
    assert len(reader._known) == 1


async def test_the_loop_runs_on_while_settings_of_a_pipeline_are_read(tmp_path: Path) -> None:
    path = tmp_path / "scheduler_config.json"
    path.write_bytes(b'{"trained_betas": [' + b"[]," * 5_000_000 + b"1]}")
    which = {"scheduler": ("diffusers", "DDIMScheduler")}
    async with Pool() as pool:
        checked = asyncio.to_thread(Heads(pool).check_parts, which, {"scheduler/scheduler_config.json": path}, {}, {})
        checking, longest, last = asyncio.create_task(checked), 0.0, time.monotonic()
        while not checking.done():
            await asyncio.sleep(0.002)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        with suppress(ModelFileError):  # the memory that it needs may be more than it may have
            await checking
    assert longest < 0.1
