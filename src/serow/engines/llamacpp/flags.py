"""A LlamaSpec as the arguments of a `llama-server` executable: llama.cpp's, and ik_llama.cpp's.

The key that the server is to ask for stands on no command line where that can be helped: llama.cpp takes it from the
environment, ik_llama.cpp from its standard input.
"""

import sys
from collections.abc import Iterator

from serow.engines.child import Listen
from serow.engines.llamacpp.spec import BUFFERS, DEFAULT_BATCH, ERRORS, LlamaSpec, batch_size, draft_sizes, whole_blocks

_SURE = "0.75"  # how likely a guess has to be for the smaller model to go on


def llama_cpp_flags(spec: LlamaSpec, listen: Listen, has_gpu: bool) -> Iterator[str]:
    """The spec as arguments of llama.cpp's `llama-server`."""
    shared = _shared_flags(spec, listen, has_gpu, "--spec-ngram-simple-size")
    told: dict[str, str | int] = {"--fit": "off", "--log-verbosity": BUFFERS if spec.devices else ERRORS}
    yield from _spell(shared | _devices(spec) | _draft(spec, shared, has_gpu) | told)
    yield from _adapters(spec)
    if spec.projector and spec.devices == ():
        yield "--no-mmproj-offload"
    if spec.use_mmap is not None:
        yield "--mmap" if spec.use_mmap else "--no-mmap"
    yield from ("--no-kv-unified", "--context-shift", "--jinja", "--slots", "--metrics", "--no-webui", "--offline")


def ik_flags(spec: LlamaSpec, listen: Listen, has_gpu: bool) -> Iterator[str]:
    """The spec as arguments of ik_llama.cpp's `llama-server`, which has other names for some things and lacks others."""
    key: dict[str, str | int] = {"--api-key": listen.key} if sys.platform == "win32" else {"--api-key-file": "/dev/stdin"}
    context = {"--ctx-size": whole_blocks(spec.num_ctx) * spec.num_parallel}  # it divides what it gets among its slots
    shared = _shared_flags(spec, listen, has_gpu, "--spec-ngram-size")
    yield from _spell(shared | (_devices(spec) if spec.devices else {}) | context | {"--webui": "none"} | key)
    yield from _adapters(spec)
    if spec.use_mmap is False:
        yield "--no-mmap"
    if spec.repack:
        yield "--run-time-repack"
    yield from ("--context-shift", "on", "--jinja", "--metrics")


def _shared_flags(spec: LlamaSpec, listen: Listen, has_gpu: bool, draft_size: str) -> dict[str, str | int]:
    """What both call by the same name, and drafts, the names of whose sizes begin with `draft_size`; "" is left out."""
    batch = batch_size(spec, has_gpu=has_gpu)
    sizes = draft_sizes(spec, batch)
    return {
        "--model": spec.weights,
        "--mmproj": spec.projector,
        "--chat-template": spec.chat_template,
        "--host": listen.host,
        "--port": listen.port or "",
        "--ctx-size": spec.num_ctx * spec.num_parallel,
        "--parallel": spec.num_parallel,
        "--batch-size": batch,
        "--ubatch-size": min(batch, DEFAULT_BATCH),
        "--n-gpu-layers": spec.num_gpu if spec.num_gpu >= 0 else "",
        "--main-gpu": spec.main_gpu,
        "--threads": spec.num_thread,
        "--threads-batch": spec.num_thread_batch,
        "--cache-ram": spec.prompt_cache,
        "--slot-save-path": spec.slots,
        "--flash-attn": spec.flash_attention_word,
        "--cache-type-k": spec.cache_type if spec.cache_type != "f16" else "",
        "--cache-type-v": spec.cache_type if spec.cache_type != "f16" else "",
        "--spec-type": "ngram-simple" if sizes.follow else "",
        f"{draft_size}-n": sizes.lookup or "",
        f"{draft_size}-m": sizes.follow or "",
    }


def _devices(spec: LlamaSpec) -> dict[str, str | int]:
    """What was planned, spelt out, so that no guess of the engine stands beside it."""
    if spec.devices is None:
        return {}
    is_split = len(spec.devices) > 1
    return {
        "--device": ",".join(spec.devices) or "none",
        "--n-gpu-layers": spec.num_gpu,
        "--split-mode": "layer" if is_split else "none",
        "--tensor-split": ",".join(map(str, spec.tensor_split)) if is_split else "",
        "--main-gpu": 0 if spec.devices else "",
    }


def _draft(spec: LlamaSpec, shared: dict[str, str | int], has_gpu: bool) -> dict[str, str | int]:
    """A smaller model that guesses where nothing has stood before; it lies as a whole on the first of the devices."""
    num_guess = draft_sizes(spec, batch_size(spec, has_gpu=has_gpu)).guess
    if not spec.draft or not num_guess:
        return {}
    flags: dict[str, str | int] = {
        "--spec-type": ",".join(filter(None, (str(shared["--spec-type"]), "draft-simple"))),
        "--spec-draft-model": spec.draft,
        "--spec-draft-n-max": num_guess,
        "--spec-draft-p-min": _SURE,
        "--spec-draft-type-k": spec.cache_type,
        "--spec-draft-type-v": spec.cache_type,
    }
    if spec.devices is None:
        return flags
    return flags | {"--spec-draft-device": spec.devices[0] if spec.devices else "none", "--spec-draft-ngl": "all"}


def _adapters(spec: LlamaSpec) -> Iterator[str]:
    for path in spec.adapters:
        yield from ("--lora", path)


def _spell(values: dict[str, str | int]) -> Iterator[str]:
    for name, value in values.items():
        if value != "":
            yield from (name, str(value))
