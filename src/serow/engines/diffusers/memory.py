"""Where a pipeline's weights go and in which type, by what the machine has. Imported in the child only."""

import re
import sys
from dataclasses import dataclass

import psutil
import torch

from serow.engines.diffusers.protocol import ImageSpec
from serow.system.memory import free_memory

_WORKING = 1.5  # memory while drawing, in parts of the weights; less than that is short
_SIZE = re.compile(r"(?:tried to allocate|allocate) ([0-9.]+) ?(bytes|[KMG]iB)?", re.IGNORECASE)
_UNITS = {"": 1, "bytes": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "could not create a primitive")  # oneDNN's


@dataclass(frozen=True)
class Plan:
    """What to load as what, where. `is_short`: draw in slices, which is slower and takes less memory."""

    device: str
    dtype: torch.dtype
    is_offloaded: bool = False
    is_short: bool = False


def plan(count: int, spec: ImageSpec) -> Plan:
    """Choose for so many parameters: the device that was planned, else by what there is.

    `num_gpu` 0 keeps them off the GPU, `main_gpu` is its number.
    """
    device = spec.device or _found(spec)
    if device.startswith("cuda"):
        return _on_cuda(count, device, is_offloaded=spec.is_offloaded)
    if device == "mps":
        dtype = torch.bfloat16 if _has_bfloat16("mps") else torch.float16
        return Plan("mps", dtype, is_short=2 * count * _WORKING > free_memory())
    is_large = 4 * count > free_memory()  # float16 takes 25 times as long on a CPU, bfloat16 about as long as float32
    dtype = torch.bfloat16 if is_large else torch.float32
    return Plan("cpu", dtype, is_short=dtype.itemsize * count * _WORKING > free_memory())


def _found(spec: ImageSpec) -> str:
    """The device where nobody has planned one."""
    if spec.num_gpu != 0 and torch.cuda.is_available():
        return f"cuda:{min(max(spec.main_gpu, 0), torch.cuda.device_count() - 1)}"
    return "mps" if spec.num_gpu != 0 and torch.backends.mps.is_available() else "cpu"


def _on_cuda(count: int, device: str, *, is_offloaded: bool) -> Plan:
    free, _ = torch.cuda.mem_get_info(device)
    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return Plan(device, dtype, is_offloaded or 2 * count > free, is_short=2 * count * _WORKING > free)


def _has_bfloat16(device: str) -> bool:
    try:
        torch.zeros(1, dtype=torch.bfloat16, device=device)
    except (TypeError, RuntimeError):
        return False
    return True


def hold_to_free_memory(device: str) -> int:
    """Returns the bytes that are free on the device now, and within the limits of this process.

    On Linux this process may from now on take no more main memory than that: an allocation fails with a number, instead of
    the kernel killing a process of its choice.
    """
    if device.startswith("cuda"):
        unused = int(torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))  # kept by torch for what comes
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    free = free_memory()
    if device == "cpu" and sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        held = psutil.Process().memory_info().data
        free = free if hard == resource.RLIM_INFINITY else max(0, min(free, hard - held))
        resource.setrlimit(resource.RLIMIT_DATA, (held + free, hard))
    return free


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch or Python says that memory did not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def shortage(error: BaseException, free: int | None = None) -> str:
    """The numbers, to follow "needs": how many of `free` bytes there were, and what was asked for last."""
    match = _SIZE.search(str(error))
    asked = f", {float(match[1]) * _UNITS[(match[2] or '').lower()] / 2**30:.1f} GiB were asked for last" if match else ""
    free = free_memory() if free is None else free
    return f"more memory than the {free / 2**30:.1f} GiB that were free{asked}"
