"""How vLLM is started: its arguments and its environment. Source: vLLM 0.32 engine/arg_utils.py, entrypoints, envs.py."""

import os
from collections.abc import Iterator, Mapping

from msgspec import Struct

from serow.engines.base import LoadRequest
from serow.engines.child import Listen

NAME = "model"  # what it is asked by
MODULE = "vllm.entrypoints.openai.api_server"
_LARGEST_SHARE = 0.98  # of a device
_LEAST_CACHE = 64 << 20  # bytes
_ENVIRON = {
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # cards are counted as their driver counts them
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",  # all of the model is here
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
_OURS = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")  # of another Python
_VISIBLE = {"CUDA": "CUDA_VISIBLE_DEVICES", "ROCm": "HIP_VISIBLE_DEVICES"}


class VllmSpec(Struct, frozen=True, kw_only=True):
    """A model and how to serve it. `share` of the memory of the `device`; without one the CPU, with a `cache` in bytes."""

    python: str
    folder: str
    num_ctx: int
    num_parallel: int
    device: str = ""  # "CUDA0"
    share: float = 0.0
    cache: int = 0
    num_thread: int = 0


def describe(request: LoadRequest) -> VllmSpec:
    """The spec for a request to load, with the memory that is planned for it."""
    use = next(iter(request.uses), None)
    slots = request.model.kv_bytes * request.options.num_ctx * request.num_parallel
    return VllmSpec(
        python=str(request.engine.executable),
        folder=str(request.model.weights),
        num_ctx=request.options.num_ctx,
        num_parallel=request.num_parallel,
        device=use.handle if use else "",
        share=min(_LARGEST_SHARE, round(use.size / use.total, 4)) if use and use.total else 0.0,
        cache=0 if use else max(slots, _LEAST_CACHE),
        num_thread=request.options.num_thread,
    )


def arguments(spec: VllmSpec, listen: Listen) -> Iterator[str]:
    """The command line. The key is not on it."""
    yield from (spec.python, "-m", MODULE, "--model", spec.folder, "--served-model-name", NAME)
    yield from ("--uds", listen.host) if not listen.port else ("--host", listen.host, "--port", str(listen.port))
    yield from ("--max-model-len", str(spec.num_ctx), "--max-num-seqs", str(spec.num_parallel))
    if spec.share:
        yield from ("--gpu-memory-utilization", str(spec.share))
    if spec.cache:
        yield from ("--kv-cache-memory-bytes", str(spec.cache))
    yield from ("--generation-config", "vllm")  # we tell every sampler
    yield from ("--enable-prompt-tokens-details", "--disable-uvicorn-access-log")


def environment(spec: VllmSpec, listen: Listen, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What it finds around it: the key, one device, and nothing of our own Python."""
    kept = {name: value for name, value in environ.items() if name not in _OURS}
    kind = spec.device.rstrip("0123456789")
    device = {_VISIBLE[kind]: spec.device.removeprefix(kind)} if kind in _VISIBLE else {}
    threads = {"OMP_NUM_THREADS": str(spec.num_thread), "VLLM_CPU_OMP_THREADS_BIND": "nobind"} if spec.num_thread else {}
    return _ENVIRON | threads | kept | device | {"VLLM_API_KEY": listen.key}
