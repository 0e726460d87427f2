"""A request to load as a LlamaSpec, and that as the wheel's parameters."""

from typing import Any

from serow.engines.base import LoadRequest
from serow.engines.child import Listen
from serow.engines.llamacpp.spec import (
    BUFFERS,
    DEFAULT_BATCH,
    ERRORS,
    NUM_DRAFT,
    NUM_GUESS,
    SMALLEST_BATCH,
    LlamaSpec,
    batch_size,
    memory_limit,
    physical_cores,
    usable_cores,
)

_MIB = 1 << 20
_MOST_GUESSED = 64  # tokens at once
_INT32 = 2**31 - 1


def describe(request: LoadRequest, slots: str = "", chat_template: str = "") -> LlamaSpec:
    """The spec for a request to load; numbers out of range become the nearest that works. For the rest see LlamaSpec."""
    options = request.options
    num_thread = min(options.num_thread, usable_cores()) if options.num_thread > 0 else physical_cores()
    split = tuple(use.layers for use in request.uses)
    checked = request.flags.num_thread if options.num_thread <= 0 else 0  # a wish comes before what was checked
    draft = request.model.draft if request.flags.draft_model and request.model.can_be_guessed_for else None
    return LlamaSpec(
        kind=request.engine.name,
        executable=str(request.engine.executable or ""),
        has_gpu=True if request.num_layers else request.engine.has_gpu,
        weights=str(request.model.weights),
        projector=str(request.model.projector or ""),
        adapters=tuple(map(str, request.model.adapters)),
        chat_template=chat_template,
        num_ctx=_within(options.num_ctx, 1, _INT32 // request.num_parallel),
        num_parallel=request.num_parallel,
        num_batch=_within(options.num_batch, max(SMALLEST_BATCH, request.num_parallel), _INT32),
        cpu_batch=request.engine.kind.cpu_batch,
        num_gpu=sum(split) if request.num_layers else _within(options.num_gpu, -1, _INT32),
        main_gpu=0 if request.num_layers else _within(options.main_gpu, 0, _INT32),
        devices=tuple(use.handle for use in request.uses) if request.num_layers else None,
        tensor_split=split,
        use_mmap=options.use_mmap,
        num_thread=min(checked or num_thread, num_thread),
        num_thread_batch=num_thread,
        prompt_cache=request.prompt_cache // _MIB,
        # Whole texts are taken in at once to be embedded, in memory that nobody plans; no template of the model runs then.
        memory_limit=0 if request.embeds else memory_limit(request.memory, request.prompt_cache),
        flash_attention=request.flags.flash_attention,
        num_draft=NUM_DRAFT if request.flags.drafts else 0,
        draft=str(draft.path) if draft else "",
        num_guess=(NUM_GUESS if request.model.num_guessed is None else _within(request.model.num_guessed, 1, _MOST_GUESSED))
        if draft
        else 0,
        cache_type=request.flags.cache_type,
        repack=request.flags.repack and options.use_mmap is not True,  # a wish comes before what was checked
        slots=slots,
        pooling=_pooling(request),
    )


def _pooling(request: LoadRequest) -> str:
    """A text model has none of its own: the mean of its tokens serves."""
    if not request.embeds:
        return ""
    return "model" if "embedding" in request.model.capabilities else "mean"


def _within(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def has_gpu() -> bool:
    """Whether the wheel finds devices beside the CPU."""
    import xllamacpp

    cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    return any(device["type"] != cpu for device in xllamacpp.get_device_info())


def common_params(spec: LlamaSpec, listen: Listen) -> Any:
    """The spec as the wheel's CommonParams."""
    import xllamacpp  # its shared libraries belong into the child only

    batch = batch_size(spec, has_gpu=has_gpu())
    params = xllamacpp.CommonParams()
    params.model.path = spec.weights
    params.mmproj.path = spec.projector
    if spec.chat_template:
        params.chat_template = spec.chat_template
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path) for path in spec.adapters]
    params.hostnames, params.port, params.api_keys = [listen.host], listen.port, [listen.key]
    params.n_ctx, params.n_parallel, params.kv_unified = spec.num_ctx * spec.num_parallel, spec.num_parallel, False
    params.n_batch, params.n_ubatch = batch, batch if spec.pooling else min(batch, DEFAULT_BATCH)
    params.embedding = bool(spec.pooling)
    if spec.pooling == "mean":
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.n_gpu_layers, params.main_gpu = spec.num_gpu, spec.main_gpu
    if spec.devices is not None:
        _place(params, spec)
    params.cpuparams.n_threads, params.cpuparams_batch.n_threads = spec.num_thread, spec.num_thread_batch
    if spec.slots:
        params.slot_save_path = f"{spec.slots}/"  # the engine puts the name of a file behind it
    _choose(params, spec)
    params.ctx_shift, params.use_jinja, params.fit_params = True, True, False
    params.cache_ram_mib = spec.prompt_cache
    params.ui, params.cors_origins, params.offline = False, "", True
    params.endpoint_slots, params.endpoint_metrics = True, True
    params.verbosity = BUFFERS if spec.devices else ERRORS
    return params


def _choose(params: Any, spec: LlamaSpec) -> None:
    """What is left to the wheel where nobody has chosen: how the file is read, how attention is computed and kept."""
    import xllamacpp

    if spec.use_mmap is not None:
        modes = xllamacpp.llama_load_mode
        params.load_mode = modes.LLAMA_LOAD_MODE_MMAP if spec.use_mmap else modes.LLAMA_LOAD_MODE_NONE
    if spec.flash_attention is not None:
        modes = xllamacpp.llama_flash_attn_type
        on, off = modes.LLAMA_FLASH_ATTN_TYPE_ENABLED, modes.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.flash_attn_type = on if spec.flash_attention else off
    if spec.cache_type != "f16":
        params.cache_type_k = params.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{spec.cache_type.upper()}")


def _place(params: Any, spec: LlamaSpec) -> None:
    """The wheel knows no list of devices, but splits what it has: none of it on those that are not to be used."""
    import xllamacpp

    cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    there = [device["name"] for device in xllamacpp.get_device_info() if device["type"] != cpu]
    split = dict(zip(spec.devices or (), spec.tensor_split, strict=True))
    params.tensor_split = [float(split.get(name, 0)) for name in there]
    params.mmproj_use_gpu = bool(spec.devices)
