"""How vLLM is started on a device, and what it says when it does not."""

from itertools import pairwise
from pathlib import Path

import pytest

from serow.devices.use import Use
from serow.engines.base import LoadRequest
from serow.engines.child import Listen
from serow.engines.vllm.arguments import arguments, describe, environment
from serow.engines.vllm.environment import Environment
from serow.engines.vllm.errors import explain_load, shortage
from serow.options import LoadOptions
from tests.scheduler.machine import GIB, model

pytestmark = pytest.mark.req("REM-07")
LISTEN = Listen("/run/engine.sock", 0, "the key")


def request(*uses: Use, num_thread: int = 0) -> LoadRequest:
    engine = Environment(Path("/opt/vllm/bin/python")).engine
    return LoadRequest(model(), LoadOptions(num_ctx=4096, num_thread=num_thread), 8, engine, uses=uses)


def option(load: LoadRequest, listen: Listen = LISTEN) -> dict[str, str]:
    words = list(arguments(describe(load), listen))
    return dict(pairwise(words))


def test_its_share_of_a_device_is_what_was_planned() -> None:
    use = Use(id="GPU-1", handle="CUDA3", total=80 * GIB, layers=1, weights=16 * GIB, cache=20 * GIB, compute=4 * GIB)
    found = option(request(use))
    assert (found["--gpu-memory-utilization"], "--kv-cache-memory-bytes" in found) == ("0.5", False)
    assert (found["--max-num-seqs"], found["--max-model-len"]) == ("8", "4096")
    assert environment(describe(request(use)), LISTEN, {"CUDA_VISIBLE_DEVICES": "3,4"})["CUDA_VISIBLE_DEVICES"] == "3"
    on_rocm = describe(request(Use(id="x", handle="ROCm1", total=GIB, layers=1)))
    assert environment(on_rocm, LISTEN, {})["HIP_VISIBLE_DEVICES"] == "1"


def test_without_a_device_it_gets_the_bytes_of_its_cache_and_its_threads() -> None:
    load = request(num_thread=2)
    assert option(load)["--kv-cache-memory-bytes"] == str(8 * 4096 * load.model.kv_bytes)
    assert environment(describe(load), LISTEN, {})["OMP_NUM_THREADS"] == "2"


def test_the_key_is_in_its_environment_and_nothing_of_another_python() -> None:
    found = environment(describe(request()), LISTEN, {"PYTHONPATH": "/ours", "VLLM_API_KEY": "theirs", "HOME": "/root"})
    assert (found["VLLM_API_KEY"], found["HOME"], "PYTHONPATH" in found) == ("the key", "/root", False)
    assert "the key" not in " ".join(arguments(describe(request()), LISTEN))


def test_where_there_are_no_unix_sockets_it_listens_on_the_loopback() -> None:
    found = option(request(), Listen("127.0.0.1", 4711, "k"))
    assert (found["--host"], found["--port"], "--uds" in found) == ("127.0.0.1", "4711", False)


@pytest.mark.parametrize(
    ("said", "words", "is_shortage"),
    [
        ("ValueError: No such thing\nRuntimeError: Engine core initialization failed. See", "No such thing", False),
        ("(EngineCore pid=7) ERROR torch.OutOfMemoryError: CUDA out of memory. Tried", "CUDA out of memory", True),
        ("ValueError: No available memory for the cache blocks. Try", "No available memory", True),
        ("OSError: Can't load /var/lib/models/x y", "Can't load a file y", False),
        ("", "the engine ended with status 1", False),
    ],
)  # fmt: skip
def test_why_it_did_not_start_is_its_root_cause(said: str, words: str, is_shortage: bool) -> None:
    assert words in explain_load(1, said)
    assert (shortage(said) is not None) == is_shortage
