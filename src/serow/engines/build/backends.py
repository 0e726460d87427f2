"""Which GPU an engine is built for: the first whose toolchain and device are both here."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serow.engines.build import cuda
from serow.engines.build.sources import Backend
from serow.registries.package_index.distribution import Distribution

_CUDA, _ROCM = "/usr/local/cuda", "/opt/rocm"  # where their packages put them


@dataclass(frozen=True)
class Gpu:
    """What is built beside the CPU's part. `told` says it to people; `options` are CMake's, without -D."""

    told: str
    backend: Backend | None = None
    options: tuple[str, ...] = ()
    wheels: tuple[Distribution, ...] = ()  # that its toolkit comes in


@dataclass(frozen=True)
class _Candidate:
    """A backend as this machine has it: its device, and its compiler or "" when that is not here."""

    backend: Backend
    device: str
    has_device: bool
    toolchain: str
    compiler: str
    option: str = ""  # the CMake option that takes the compiler

    @property
    def gpu(self) -> Gpu:
        options = (f"{self.option}={self.compiler}",) if self.option else ()
        return Gpu(f"{self.backend}, with {self.compiler}", self.backend, options)

    @property
    def missing(self) -> str:
        """What keeps it from being built, "" when there is no trace of it."""
        if self.compiler:
            return f"{self.toolchain} is here, {self.device} is not"
        if self.has_device and self.backend is Backend.CUDA and cuda.is_here():
            return cuda.too_old()
        return f"{self.device} is here, {self.toolchain} is not" if self.has_device else ""


def find_gpu() -> Gpu:
    """The GPU to build for, or none and why."""
    if sys.platform == "darwin":
        is_apple = platform.machine() == "arm64"
        return Gpu("metal", Backend.METAL, ("GGML_METAL_EMBED_LIBRARY=ON",)) if is_apple else Gpu("none: not an Apple GPU")
    candidates = list(_candidates())
    for candidate in candidates:
        if candidate.compiler and candidate.has_device:
            return candidate.gpu
        if candidate.has_device and candidate.backend is Backend.CUDA and cuda.is_here() and not cuda.too_old():
            return Gpu(cuda.TOLD, Backend.CUDA, cuda.OPTIONS, cuda.WHEELS)
    missing = [candidate.missing for candidate in candidates if candidate.missing]
    return Gpu(f"none: {'; '.join(missing)}" if missing else "none")


def _candidates() -> Iterator[_Candidate]:
    """The fastest first: one of them is enough, two would show the same GPU twice."""
    nvcc = _program("nvcc", "CUDA_HOME", "CUDA_PATH", default=_CUDA)
    yield _Candidate(Backend.CUDA, "an NVIDIA GPU", _has_nvidia(), "nvcc", nvcc, "CMAKE_CUDA_COMPILER")
    hipcc = _program("hipcc", "ROCM_PATH", "HIP_PATH", default=_ROCM)
    yield _Candidate(Backend.ROCM, "an AMD GPU with ROCm", _has_amd(), "hipcc", hipcc)
    glslc = _program("glslc", "VULKAN_SDK") if _has_vulkan_headers() else ""
    yield _Candidate(Backend.VULKAN, "a GPU", _has_renderer(), "Vulkan (glslc, its headers and SPIR-V's)", glslc)


def _program(name: str, *variables: str, default: str = "") -> str:
    """The path of a program: on PATH, or in the bin directory of an SDK that a variable or custom names; "" for none."""
    roots = [*(os.environ[variable] for variable in variables if os.environ.get(variable)), default]
    places = os.pathsep.join(str(Path(root) / "bin") for root in roots if root)
    return shutil.which(name) or shutil.which(name, path=places) or ""


def _has_nvidia() -> bool:
    if sys.platform == "win32":
        return shutil.which("nvidia-smi") is not None
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()  # the latter in WSL


def _has_amd() -> bool:
    return Path("/dev/kfd").exists()


def _has_renderer() -> bool:
    return sys.platform == "win32" or any(Path("/dev/dri").glob("renderD*"))


def _has_vulkan_headers() -> bool:
    roots = [Path("/usr/include"), Path("/usr/local/include")]
    if sdk := os.environ.get("VULKAN_SDK"):
        roots += [Path(sdk) / "include", Path(sdk) / "Include"]
    return all(any((root / header).is_file() for root in roots) for header in ("vulkan/vulkan.h", "spirv/unified1/spirv.h"))
