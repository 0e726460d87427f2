"""What an engine tells of itself beside its answers: GET /version, and the requests in GET /metrics as vLLM names them."""

import re
from typing import Any

import msgspec
from msgspec import Struct

_LONGEST_VERSION = 80
_GAUGES = {"num_running_there": b"vllm:num_requests_running", "num_waiting_there": b"vllm:num_requests_waiting"}


class _Version(Struct):
    version: str = ""


def told(version: bytes, metrics: bytes) -> dict[str, Any]:
    """The version, and how many requests run and wait there; nothing of what is not told."""
    found: dict[str, Any] = {name: sum(values) for name, gauge in _GAUGES.items() if (values := _values(metrics, gauge))}
    try:
        said = msgspec.json.decode(version, type=_Version).version[:_LONGEST_VERSION]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        said = ""
    return {**({"version": said} if said else {}), **found}


def _values(metrics: bytes, gauge: bytes) -> list[int]:
    """One for each of its engines."""
    return [int(match[1]) for match in re.finditer(re.escape(gauge) + rb"(?:\{[^}\n]*\})? (\d{1,9})(?:\.0)?\s", metrics)]
