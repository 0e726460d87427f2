"""Why vLLM did not start, from the end of what it wrote: without its traces, and without paths."""

import logging
import re

from serow.engines.process import explain_exit
from serow.errors import NotEnoughMemory

_log = logging.getLogger(__name__)
_FAULT = re.compile(r"\b([A-Z]\w*(?:Error|Exception)): (.{1,2000})")
_ECHO = re.compile(r"Engine core initialization failed|root cause|WorkerProc initialization failed|cancelled")  # of another one
_SHORTAGE = re.compile(
    r"out of memory|No available memory for the cache blocks|larger than the available KV cache memory"
    r"|Free memory on device|less than requested memory for kv",
    re.IGNORECASE,
)
_PATH = re.compile(r"(?<![\w.])/[\w.+@-]+(?:/[\w.+@-]+)+")
_LONGEST = 300  # characters


def explain_load(returncode: int, stderr: str) -> str:
    """The sentence for a vLLM that ended while it started."""
    _log.warning("vLLM ended with status %d; its last words:\n%s", returncode, stderr)
    if "No module named" in stderr and "vllm" in stderr:
        return "could not load the model: the Python of SEROW_VLLM has no vLLM"
    found = [match[2] for match in _FAULT.finditer(stderr) if not _ECHO.search(match[2])]
    return f"could not load the model: {_words(found[-1]) if found else explain_exit(returncode, stderr)}"


def shortage(stderr: str) -> NotEnoughMemory | None:
    """The error for a load that failed for want of memory; None for any other."""
    found = [match[2] for match in _FAULT.finditer(stderr) if _SHORTAGE.search(match[2])]
    return NotEnoughMemory(f"could not load the model: {_words(found[-1])}") if found else None


def _words(text: str) -> str:
    return _PATH.sub("a file", " ".join(text.split()))[:_LONGEST]
