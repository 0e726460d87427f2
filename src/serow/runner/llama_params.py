"""What a llama.cpp server is started with: one description in two spellings, the wheel's fields and an executable's flags."""

import os
from collections.abc import Iterator
from typing import Any

import psutil
from msgspec import Struct

from serow.runner.base import LoadRequest
from serow.runner.child import Listen

_DEFAULT_BATCH = 512
_SMALLEST_BATCH = 32  # below the number of slots, or 2, the engine aborts
_CPU_BATCH = 64  # an engine hears of a client that left between two batches; on a CPU larger ones gain nothing (measured)
_MIB = 1 << 20
_INT32 = 2**31 - 1

ENVIRON = {
    "GGML_NO_BACKTRACE": "1",  # an abort would start a debugger
    # How long threads spin for each other before they sleep. The default of 300,000 lets an engine that shares its cores with
    # another, or with us, decode at a tenth of the speed (measured); 1,000 costs nothing where it has them for itself.
    "GOMP_SPINCOUNT": "1000",
}


class LlamaSpec(Struct, frozen=True, kw_only=True):
    """A model and how to serve it, every number within what the engine can bear. `executable` "" is the wheel."""

    executable: str
    weights: str
    projector: str
    num_ctx: int  # tokens for each slot
    num_parallel: int
    num_batch: int
    num_gpu: int
    main_gpu: int
    use_mmap: bool | None
    num_thread: int
    prompt_cache: int  # MiB of memory for prompts that left their slot


def describe(request: LoadRequest, executable: str) -> LlamaSpec:
    """The spec for a request to load; numbers out of range become the nearest that works."""
    options = request.options
    return LlamaSpec(
        executable=executable,
        weights=str(request.model.weights),
        projector=str(request.model.projector or ""),
        num_ctx=_within(options.num_ctx, 1, _INT32 // request.num_parallel),
        num_parallel=request.num_parallel,
        num_batch=_within(options.num_batch, max(_SMALLEST_BATCH, request.num_parallel), _INT32),
        num_gpu=_within(options.num_gpu, -1, _INT32),
        main_gpu=_within(options.main_gpu, 0, _INT32),
        use_mmap=options.use_mmap,
        num_thread=min(options.num_thread, usable_cores()) if options.num_thread > 0 else physical_cores(),
        prompt_cache=prompt_cache_size() // _MIB,
    )


def usable_cores() -> int:
    """Cores that this process may use, hyper-threads counted each: more threads would only wait for one another."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads counted once: decoding gains nothing from the second one."""
    return min(usable_cores(), psutil.cpu_count(logical=False) or usable_cores())


def prompt_cache_size() -> int:
    """Bytes that one engine may spend on the key-value states of prompts that left their slot."""
    return min(1024 * _MIB, int(psutil.virtual_memory().total) // 32)


def _within(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def batch_size(spec: LlamaSpec, *, has_gpu: bool) -> int:
    """Tokens of prompts that the engine takes in at once; a picture's must fit in whole."""
    if spec.projector:
        return max(spec.num_batch, _DEFAULT_BATCH)
    if has_gpu and spec.num_gpu != 0:
        return spec.num_batch
    return min(spec.num_batch, max(_CPU_BATCH, spec.num_parallel))


def common_params(spec: LlamaSpec, listen: Listen) -> Any:
    """The spec as the wheel's CommonParams."""
    import xllamacpp  # its shared libraries belong into the child only

    cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    batch = batch_size(spec, has_gpu=any(device["type"] != cpu for device in xllamacpp.get_device_info()))
    params = xllamacpp.CommonParams()
    params.model.path = spec.weights
    params.mmproj.path = spec.projector
    params.hostnames, params.port, params.api_keys = [listen.host], listen.port, [listen.key]
    params.n_ctx, params.n_parallel, params.kv_unified = spec.num_ctx * spec.num_parallel, spec.num_parallel, False
    params.n_batch, params.n_ubatch = batch, min(batch, _DEFAULT_BATCH)
    params.n_gpu_layers, params.main_gpu = spec.num_gpu, spec.main_gpu
    if spec.use_mmap is not None:
        modes = xllamacpp.llama_load_mode
        params.load_mode = modes.LLAMA_LOAD_MODE_MMAP if spec.use_mmap else modes.LLAMA_LOAD_MODE_NONE
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = spec.num_thread
    params.ctx_shift, params.use_jinja, params.fit_params = True, True, False
    params.cache_ram_mib = spec.prompt_cache
    params.ui, params.cors_origins, params.offline = False, "", True
    params.endpoint_slots, params.endpoint_metrics = True, True
    params.verbosity = 1  # errors
    return params


def flags(spec: LlamaSpec, listen: Listen, *, has_gpu: bool) -> Iterator[str]:
    """The spec as arguments of a `llama-server` executable; the key goes into LLAMA_API_KEY."""
    batch = batch_size(spec, has_gpu=has_gpu)
    values = {
        "--model": spec.weights,
        "--mmproj": spec.projector,
        "--host": listen.host,
        "--port": listen.port or "",
        "--ctx-size": spec.num_ctx * spec.num_parallel,
        "--parallel": spec.num_parallel,
        "--batch-size": batch,
        "--ubatch-size": min(batch, _DEFAULT_BATCH),
        "--n-gpu-layers": spec.num_gpu if spec.num_gpu >= 0 else "",
        "--main-gpu": spec.main_gpu,
        "--threads": spec.num_thread,
        "--cache-ram": spec.prompt_cache,
        "--fit": "off",
        "--log-verbosity": 1,
    }
    for name, value in values.items():
        if value != "":
            yield from (name, str(value))
    if spec.use_mmap is not None:
        yield "--mmap" if spec.use_mmap else "--no-mmap"
    yield from ("--no-kv-unified", "--context-shift", "--jinja", "--slots", "--metrics", "--no-webui", "--offline")
