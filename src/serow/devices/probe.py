"""The child that asks drivers: `python -m serow.devices.probe cards|wheel|torch`.

`cards` answers each line on its stdin with one line, the cards that there are now, as JSON; so that a driver's library is
loaded once. `wheel` and `torch` print the devices that these see, and end.
"""

import importlib.util
import os
import sys
from typing import Any

import msgspec

from serow.devices.cards import find_cards
from serow.devices.device import Listed
from serow.system.limits import die_with_parent, forbid_core_files


def main(source: str) -> None:
    """Answer in JSON on stdout; what libraries print there goes to stderr."""
    die_with_parent()
    forbid_core_files()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if source == "cards":
        for _ in sys.stdin.buffer:
            replies.write(msgspec.json.encode(find_cards()) + b"\n")
        return
    replies.write(msgspec.json.encode(_wheel() if source == "wheel" else _torch()) + b"\n")


def _wheel() -> list[Listed]:
    import xllamacpp

    cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    return [_of_wheel(each) for each in xllamacpp.get_device_info() if each["type"] != cpu]


def _of_wheel(told: dict[str, Any]) -> Listed:
    free, total = int(told["memory_free"]), int(told["memory_total"])
    return Listed(str(told["name"]), str(told["description"]), total, min(free, total), str(told.get("device_id") or ""))


def _torch() -> list[Listed]:
    """What pictures can be drawn on."""
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    if torch.backends.mps.is_available():
        total = int(torch.mps.recommended_max_memory())
        return [Listed("mps", "Apple GPU", total, max(0, total - int(torch.mps.driver_allocated_memory())))]
    return [_of_torch(torch, number) for number in range(torch.cuda.device_count())]


def _of_torch(torch: Any, number: int) -> Listed:
    properties = torch.cuda.get_device_properties(number)
    uuid = str(getattr(properties, "uuid", ""))
    free, total = torch.cuda.mem_get_info(number)
    return Listed(f"cuda:{number}", properties.name, total, min(free, total), f"GPU-{uuid}" if uuid else "")


if __name__ == "__main__":
    main(sys.argv[1])
