"""Whether an engine that is not installed would be faster on this kind of CPU, and how much: from what was measured."""

import platform

from serow.engines import packaged
from serow.engines.home import EngineHome
from serow.settings import Settings
from serow.system.cpu import cpu_flags

# How many times as fast as the wheel `ik` writes one text that does not repeat itself, by what a CPU can do, the widest first.
# Measured with Qwen2.5-Coder-0.5B Q4_K_M on two cores, see docs/engines.md. A CPU that is not here was not measured.
_MEASURED = (
    (frozenset({"avx512f", "avx512bw", "avx512vl"}), 1.7),
    (frozenset({"avx2", "bmi2", "f16c", "fma"}), 1.8),
)


def speedup(settings: Settings) -> float:
    """How many times as fast, 0 where nobody knows, or where another engine than the wheel is here or is chosen."""
    is_chosen = bool(settings.engine or settings.llama_server)
    if is_chosen or packaged.names() or len(EngineHome(settings.engines).engines()) > 1:
        return 0.0
    flags = cpu_flags() if platform.machine().lower() in ("x86_64", "amd64") else frozenset()
    return next((ratio for needed, ratio in _MEASURED if needed <= flags), 0.0)
