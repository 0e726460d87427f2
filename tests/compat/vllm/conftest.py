"""A server before vLLM: a real one where SEROW_TEST_VLLM names its environment (scripts/try_vllm.sh), else its recording."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from serow.settings import Settings
from tests.compat.vllm.door import Door
from tests.compat.vllm.recording import RECORDED, Recorder, Replayer
from tests.compat.vllm.replicas import replica
from tests.support.proxy import listening, passing
from tests.support.server import running

pytest.importorskip("tokenizers", reason="the extra serow[remote] is not installed")


@pytest.fixture(scope="session")
def environment() -> Path:
    """Where vLLM is installed."""
    if not (found := os.environ.get("SEROW_TEST_VLLM")):
        pytest.skip("needs vLLM: scripts/try_vllm.sh installs and runs it")
    return Path(found)


@pytest.fixture(scope="session")
def tokenizer(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2's tokenizer as Hugging Face has it."""
    if found := os.environ.get("SEROW_TEST_VLLM"):
        return Path(found) / "smollm2"
    transformers = pytest.importorskip("transformers", reason="the extra serow[image] is not installed")
    place = tmp_path_factory.mktemp("smollm2")
    (place / "model.gguf").symlink_to(smollm2.resolve())
    transformers.AutoTokenizer.from_pretrained(place, gguf_file="model.gguf").save_pretrained(place)
    return place


@pytest_asyncio.fixture(scope="session")
async def door(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """Serow before one replica."""
    async with AsyncExitStack() as stack:
        if found := os.environ.get("SEROW_TEST_VLLM"):
            engine = await stack.enter_async_context(replica(Path(found)))
            recorder = Recorder()
            if record := os.environ.get("SEROW_TEST_VLLM_RECORD"):
                stack.callback(recorder.write, Path(record))
            url = await stack.enter_async_context(passing(engine.url, recorder.note))
        else:
            assert RECORDED.is_file()
            url = await stack.enter_async_context(listening(Replayer().handle))
        server = await stack.enter_async_context(running(Settings(models=tmp_path_factory.mktemp("store"))))
        found_door = Door(server, tokenizer)
        await found_door.create(url.removeprefix("http://"))
        yield found_door
