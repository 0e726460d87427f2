"""A vLLM that we start: a model made of a safetensors folder through the whole server, with a program that computes nothing."""

import hashlib
import json
import os
import shutil
import stat
import struct
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio

from serow.engines.vllm.arguments import NAME
from serow.settings import Settings
from tests.support import vllm
from tests.support.server import Running, running, served, until

pytest.importorskip("tokenizers", reason="the extra serow[remote] is not installed")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sh, unix sockets and /proc")
REPOSITORY = Path(__file__).parents[3]
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 4096, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64}  # fmt: skip


def write_safetensors(path: Path, count: int = 64) -> None:
    """One tensor of zeros."""
    header = json.dumps({"w": {"dtype": "BF16", "shape": [count], "data_offsets": [0, 2 * count]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(2 * count))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_folder(folder: Path, **config: Any) -> Path:
    vllm.write_folder(folder)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    write_safetensors(folder / "model.safetensors")
    return folder


def write_environment(folder: Path) -> Path:
    """Where a `python` runs the program of tests/support in place of vLLM."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\ncd {REPOSITORY} && exec {sys.executable} -m tests.support.vllm_program "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (folder / "lib" / "python3.11" / "site-packages" / "vllm-0.32.0.dist-info").mkdir(parents=True)
    return folder


class Place:
    """A server with a vLLM, and what that was started with."""

    def __init__(self, server: Running, folder: Path, record: Path) -> None:
        self.server = server
        self.folder = folder
        self._record = record

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._record.read_text())
        return found

    @property
    def option(self) -> dict[str, str]:
        argv = self.record["argv"][2:]
        return dict(zip(argv[::2], argv[1::2], strict=False))

    def is_gone(self) -> bool:
        """Whether nothing of it runs any more; on a busy machine it may not have come to its first line."""
        return not self._record.exists() or not any(map(_runs, self.record["pids"]))

    async def create(self, name: str = "m", **fields: Any) -> tuple[int, str]:
        files = {}
        for path in sorted(self.folder.iterdir()):
            files[path.name] = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
            async with self.server.session.post(f"/api/blobs/{files[path.name]}", data=path.read_bytes()) as response:
                assert response.status in (200, 201)
        return await self.text("/api/create", {"model": name, "files": files, "stream": False, **fields})

    async def text(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        async with self.server.session.post(path, json=body) as response:
            return response.status, await response.text()

    async def generate(self, **fields: Any) -> tuple[int, dict[str, Any]]:
        status, text = await self.text("/api/generate", {"model": "m", "prompt": "x", "stream": False, **fields})
        return status, json.loads(text)


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VLLM_FAKE_RECORD", str(tmp_path / "record.json"))
    monkeypatch.setenv("VLLM_API_KEY", "of the server's own")
    monkeypatch.setenv("SEROW_API_KEYS", "secret")
    return Settings(models=tmp_path / "models", vllm=write_environment(tmp_path / "environment"))


@pytest_asyncio.fixture
async def place(tmp_path: Path, settings: Settings) -> AsyncIterator[Place]:
    async with running(settings) as server:
        found = Place(server, write_folder(tmp_path / "folder"), tmp_path / "record.json")
        status, text = await found.create()
        assert status == 200, text
        yield found


@pytest.mark.req("REM-07")
async def test_a_folder_of_safetensors_runs_on_a_vllm_that_is_started_for_it(place: Place) -> None:
    status, found = await place.generate(options={"num_ctx": 512, "num_predict": 5})
    assert (status, found["response"]) == (200, "Hello")
    option = place.option
    assert (option["--served-model-name"], option["--max-model-len"]) == (NAME, "512")
    assert names_in(Path(option["--model"])) == names_in(place.folder)
    assert option["--uds"].endswith(".sock")
    assert int(option["--kv-cache-memory-bytes"]) > 0  # there is no card
    assert "--gpu-memory-utilization" not in option


@pytest.mark.req("REM-07")
async def test_the_key_is_random_and_nothing_of_the_server_s_secrets_goes_along(place: Place) -> None:
    await place.generate()
    environ = place.record["environ"]
    assert len(environ["VLLM_API_KEY"]) > 30
    assert environ["VLLM_API_KEY"] not in " ".join(place.record["argv"])
    assert "SEROW_API_KEYS" not in environ
    assert (environ["HF_HUB_OFFLINE"], environ["VLLM_NO_USAGE_STATS"]) == ("1", "1")
    assert not {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"} & environ.keys()


@pytest.mark.req("REM-07")
async def test_it_is_listed_like_any_model_in_memory(place: Place) -> None:
    await place.generate(keep_alive="10m")
    async with place.server.session.get("/api/ps") as response:
        (shown,) = (await response.json())["models"]
    assert (shown["name"], shown["details"]["format"], shown["size"] > 0) == ("m:latest", "safetensors", True)
    async with place.server.session.get("/api/ps?verbose=1") as response:
        (verbose,) = (await response.json())["models"]
    assert (verbose["engine"], verbose["healthy"], verbose["version"], verbose["num_waiting_there"]) == (
        "vllm",
        True,
        "0.32.0",
        2,
    )
    _, text = await place.text("/api/show", {"model": "m"})
    assert json.loads(text)["details"]["quantization_level"] == "BF16"


@pytest.mark.req("REM-07")
@pytest.mark.parametrize("way", ["keep_alive", "unload", "delete"])
async def test_it_and_what_it_has_started_end_when_the_model_leaves_memory(
    place: Place, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("VLLM_FAKE_CORE", "stays")
    await place.generate(keep_alive="1s" if way == "keep_alive" else "10m")
    assert not place.is_gone()
    if way == "unload":
        await place.text("/api/generate", {"model": "m", "keep_alive": 0})
    elif way == "delete":
        async with place.server.session.delete("/api/delete", json={"model": "m"}) as response:
            assert response.status == 200
    await until(place.is_gone)


@pytest.mark.req("REM-07")
async def test_it_ends_with_a_server_that_is_killed(settings: Settings, place: Place) -> None:
    await place.generate(keep_alive=0)
    await until(place.is_gone)
    with served(settings.models, SEROW_VLLM=str(settings.vllm), SEROW_API_KEYS="", VLLM_FAKE_CORE="stays") as started:
        body = {"model": "m", "prompt": "x"}
        async with aiohttp.ClientSession(started.url) as session, session.post("/api/generate", json=body) as response:
            assert response.status == 200, await response.text()
        assert not place.is_gone()
        os.kill(started.process.pid, 9)
        await until(place.is_gone)


@pytest.mark.req("REM-07")
@pytest.mark.parametrize("victim", ["vLLM", "its launcher"])
async def test_what_is_left_of_one_that_dies_ends_and_the_next_request_starts_another(
    place: Place, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    monkeypatch.setenv("VLLM_FAKE_CORE", "stays")
    await place.generate()
    monkeypatch.delenv("VLLM_FAKE_CORE")
    before = place.record["pids"]
    os.kill(before[0] if victim == "vLLM" else place.server.loaded.pid, 9)
    await until(lambda: not any(map(_runs, before)))
    status, found = await place.generate()
    assert (status, found["response"]) == (200, "Hello")
    assert place.record["pids"] != before


@pytest.mark.req("REM-07")
@pytest.mark.parametrize(
    ("mode", "words"),
    [("broken", "are not supported for now. See a file"), ("memory", "Free memory on device"), ("absent", "has no vLLM")],
)
async def test_why_it_does_not_start_is_told(place: Place, monkeypatch: pytest.MonkeyPatch, mode: str, words: str) -> None:
    monkeypatch.setenv("VLLM_FAKE_MODE", mode)
    status, found = await place.generate(options={"num_ctx": 512})
    assert (status, words in found["error"]) == (500, True), found
    assert "/opt" not in found["error"]


@pytest.mark.req("REM-07")
@pytest.mark.parametrize(
    ("mode", "limit", "words"),
    [
        ("hang", {"load_timeout": 2.0}, "did not load within"),
        ("stall", {"stall_timeout": 1.0}, "made no progress for 1 seconds"),
    ],
)
async def test_one_that_does_not_load_in_time_or_makes_no_progress_is_ended(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, mode: str, limit: dict[str, Any], words: str
) -> None:
    monkeypatch.setenv("VLLM_FAKE_MODE", mode)
    async with running(replace(settings, **limit)) as server:
        place = Place(server, write_folder(tmp_path / "folder"), tmp_path / "record.json")
        await place.create()
        status, found = await place.generate()
        assert (status, words in found["error"]) == (500, True), found
        await until(place.is_gone)


@pytest.mark.req("REM-07")
async def test_a_model_that_needs_vllm_is_refused_where_there_is_none(place: Place, settings: Settings) -> None:
    async with running(replace(settings, vllm=None)) as server:
        status, found = await Place(server, place.folder, Path()).generate()
        assert (status, "this server has none" in found["error"]) == (400, True), found
    async with running(replace(settings, vllm=settings.models)) as server:
        status, found = await Place(server, place.folder, Path()).generate()
        assert (status, "is no environment of Python" in found["error"]) == (400, True), found


@pytest.mark.req("REM-07")
async def test_a_folder_that_vllm_could_not_run_is_refused_when_it_is_made(place: Place) -> None:
    async def refused(**fields: Any) -> str:
        status, text = await place.create("n", **fields)
        assert status == 400, text
        return text

    (place.folder / "config.json").write_text(json.dumps({**CONFIG, "auto_map": {"AutoModel": "x.Y"}}))
    assert "auto_map" in await refused()
    write_folder(place.folder)
    shutil.copy(place.folder / "model.safetensors", place.folder / "model-00001-of-00002.safetensors")
    (place.folder / "model.safetensors").unlink()
    assert "1 of the 2 files" in await refused()
    write_folder(place.folder)
    (place.folder / "model-00001-of-00002.safetensors").unlink()
    (place.folder / "tokenizer.json").unlink()
    assert "has no tokenizer.json" in await refused()


@pytest.mark.req("REM-07")
async def test_what_it_has_no_place_for_is_told(place: Place) -> None:
    _, found = await place.generate(keep_alive="5m", options={"num_gpu": 3, "num_thread": 2, "typical_p": 0.5})
    told = "\n".join(found["warnings"])
    assert all(f'"{name}" was ignored: vLLM' in told for name in ("num_gpu", "typical_p")), told
    assert "keep_alive" not in told and "num_thread" not in told
    status, text = await place.text("/api/embed", {"model": "m", "input": "x"})
    assert (status, "can't embed texts" in text) == (400, True), text
    status, text = await place.text("/api/generate", {"model": "m", "prompt": "x", "images": ["iVBORw0KGgo="]})
    assert (status, "does not support" in text) == (400, True), text
