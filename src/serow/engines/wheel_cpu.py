"""Whether this CPU runs the wheel's llama.cpp: it is compiled for AVX2 on x86, and without it a signal ends it at once."""

from serow.system.cpu import cpu_flags

_NEEDS = frozenset({"avx2", "bmi2", "f16c", "fma"})
_ANY_X86 = "sse2"  # what the kernel says of each of them; who emulates one may tell of another CPU
HINT = "serow engine build llama.cpp makes one for this CPU, SEROW_ENGINE=llama.cpp has all models run on it"


def refusal() -> str:
    """Why it can't run here; "" where it can, or nobody says what the CPU has."""
    flags = cpu_flags()
    lacking = ", ".join(sorted(_NEEDS - flags)) if _ANY_X86 in flags else ""
    return f"the llama.cpp of the wheel needs a CPU with {lacking}, which this one lacks" if lacking else ""
