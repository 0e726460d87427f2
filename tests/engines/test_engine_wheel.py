"""`serow-engine-ik` as it was built: what it holds, and a model that runs on it."""

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serow.engines import packaged
from serow.engines.home import EngineHome
from serow.engines.llamacpp.runner import LlamaRunner
from serow.settings import Settings
from tests.engines.llamacpp.engines import completion, load_request, text_of
from tests.engines.package import install

WHEEL = os.environ.get("SEROW_TEST_ENGINE_WHEEL", "")
MOST = 60_000_000  # bytes
NEWEST_GLIBC = (2, 28)

pytestmark = [
    pytest.mark.wheel,
    pytest.mark.skipif(not WHEEL, reason="SEROW_TEST_ENGINE_WHEEL names no wheel: scripts/build_engine_wheel"),
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineHome]:
    """Engines of a Python that has the package."""
    install(Path(WHEEL), tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    packaged._entries.cache_clear()
    yield EngineHome(tmp_path / "engines")
    packaged._entries.cache_clear()


async def test_a_model_writes_on_it_what_it_writes_on_the_default_engine(home: EngineHome, zoo: Path) -> None:
    found = home.register()["ik"]
    assert (found.reason, found.skipped) == ("", ())
    texts = []
    for engine in home.engines():
        runner = LlamaRunner(load_request(zoo / "zoo-think.gguf", engine=engine), Settings())
        await runner.load()
        try:
            texts.append(await text_of(runner, completion("Hello, ", 16)))
        finally:
            await runner.close()
    assert texts[0] == texts[1] != ""


def test_it_is_small_and_runs_on_every_system_that_it_names() -> None:
    assert Path(WHEEL).stat().st_size <= MOST
    with zipfile.ZipFile(WHEEL) as wheel:
        executables = [wheel.read(name) for name in wheel.namelist() if name.endswith("/llama-server")]
    assert executables
    for data in executables:
        versions = {tuple(map(int, found.split(b"."))) for found in re.findall(rb"\0GLIBC_(\d+\.\d+)(?:\.\d+)?(?=\0)", data)}
        assert versions and max(versions) <= NEWEST_GLIBC
        assert b"/engine-wheel/" not in data  # a path of the machine that made it
