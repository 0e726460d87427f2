"""What llama.cpp says when it fails, as sentences of ours: without its JSON, paths or function names."""

import logging
import re

from serow.engines.llamacpp.events import Fault
from serow.engines.llamacpp.report import LOST, SPENT, without_chatter
from serow.engines.process import explain_end as explain_exit_at_work
from serow.engines.process import explain_exit
from serow.errors import (
    DeviceGone,
    EngineDied,
    EngineError,
    FormatError,
    NotEnoughMemory,
    OutOfMemory,
    RequestError,
    SerowError,
)

_log = logging.getLogger(__name__)

_TOO_LITTLE = "there is not enough memory for the model"
_GONE = "there is no device {0} any more"
_SHORTAGES = {_TOO_LITTLE: NotEnoughMemory, _GONE: DeviceGone}
_LAST_WORDS = 2000
_MIB = 1 << 20
_LOAD_REASONS = (  # the first that matches counts
    (r"FileNotFoundError|PermissionError|Exec format error", "the engine's executable can't be started"),
    (r"invalid argument: (--[\w-]+)", "the llama-server executable is too old, it does not know {0}"),
    (r"unknown model architecture: '([\w.-]+)'", "the engine does not know the architecture {0}"),
    (r"unknown (pre-)?tokenizer|unsupported vocab|cannot find tokenizer", "the engine does not know the model's tokenizer"),
    (r"invalid device: ([\w.:\[\]-]{1,80})", _GONE),
    (r"invalid value for main_gpu", "there is no GPU with the number that main_gpu names"),
    (r"(failed|unable) to allocate|out of ?(device)? ?memory|ErrorOutOfDeviceMemory", _TOO_LITTLE),
    (r"mtmd_init|failed to load (clip|multimodal) model|and mmproj", "the projector does not fit the model"),
    (r"lora adapter|lora tensor", "the adapter does not fit the model"),
    (r"invalid magic|failed to open GGUF", "the model file is not a GGUF file"),
    (r"gguf_init_from|error loading model", "the model file is broken"),
)


def explain_load(returncode: int, stderr: str) -> str:
    """Why the model did not load, from the end of the engine's log."""
    _log.warning("the engine ended with status %d; its last words:\n%s", returncode, stderr[-_LAST_WORDS:])
    _, words = _load_reason(stderr)
    return f"could not load the model: {words or explain_exit(returncode, stderr)}"


def shortage(stderr: str) -> NotEnoughMemory | None:
    """The error for a load that failed for want of memory, or of a device; None for any other."""
    reason, words = _load_reason(stderr)
    kind = _SHORTAGES.get(reason)
    return kind(f"could not load the model: {words}") if kind else None


def _load_reason(stderr: str) -> tuple[str, str]:
    """Which of the reasons an engine has given, and the same in words; both are empty where it gave none of them."""
    said = without_chatter(stderr)
    for pattern, reason in _LOAD_REASONS:
        if match := re.search(pattern, said, re.IGNORECASE):
            return reason, reason.format(*match.groups())
    return "", ""


def explain_end(returncode: int, stderr: str) -> EngineDied:
    """The error for an engine that ended at work, from the end of its log."""
    said = without_chatter(stderr)
    if LOST.search(said.encode()):
        hint = "ask again: it is planned with the devices that are there then"
        return EngineDied("the engine lost a device that it worked on", hint=hint)
    if not SPENT.search(said.encode()):
        return explain_exit_at_work(returncode, stderr)
    _log.warning("the engine ran out of memory at work; its last words:\n%s", stderr[-_LAST_WORDS:])
    asked = [float(size) for size in re.findall(r"allocating ([\d.]{1,15}) MiB", said)]
    number = f", {asked[-1]:.0f} MiB were asked for last" if asked else ""
    hint = "ask again: it is planned with more room; a smaller num_ctx, SEROW_NUM_PARALLEL=1 or num_gpu take less of it"
    return OutOfMemory(f"the engine ran out of memory{number}", asked=int(asked[-1] * _MIB) if asked else 0, hint=hint)


def refusal(fault: Fault) -> SerowError:
    """The error to raise for one of the engine's: the request's fault or its own."""
    _log.info("the engine refused a request: %d %s %s", fault.code, fault.type, fault.message)
    if fault.type == "exceed_context_size_error":
        return RequestError(f"the prompt has {fault.n_prompt_tokens} tokens, the context holds {fault.n_ctx}")
    if "grammar" in fault.message or "json_schema" in fault.message:
        return FormatError("the engine does not accept the grammar of the format")
    if "invalid tokens" in fault.message:
        return RequestError("the prompt holds token ids that the model does not have")
    if "image" in fault.message or "bitmap" in fault.message:
        return RequestError("the engine can't read one of the images")
    if fault.code == 400:
        return RequestError("the engine does not accept the request")
    return EngineError("the engine failed to answer the request")
