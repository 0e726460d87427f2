"""CUDA from the package index, for machines with a card and without its toolkit: NVIDIA's wheels, laid out as that is.

What compiles stays in the build's own directory. What the finished engine needs to run is put beside it.
"""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from serow.engines.build.tools import platform_tag
from serow.engines.home import LIBRARIES
from serow.registries.package_index.distribution import Distribution

VERSION = "13.5.37"
SUBTREE = "nvidia/cu13"  # of each wheel
OLDEST_DRIVER = 580  # that runs what CUDA 13 compiles
DISK = 2_100_000_000  # bytes of the wheels, what is in them, and what goes beside the engine
RUNTIME = ("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13")
_LIBRARIES = "lib"  # of the toolkit
OPTIONS = ("GGML_CUDA_NO_VMM=ON", f"CMAKE_BUILD_RPATH=$ORIGIN/{LIBRARIES}")  # without VMM no stand-in for the driver is linked
_DRIVER = Path("/proc/driver/nvidia/version")
_MANYLINUX = {5: "manylinux1_x86_64.manylinux_2_5_x86_64", 17: "manylinux2014_x86_64.manylinux_2_17_x86_64"} | {
    12: "manylinux2010_x86_64.manylinux_2_12_x86_64"
}
_ROWS = (  # project, version, the age of the C library that it runs on, size, digest
    ("nvidia-cuda-nvcc", VERSION, 17, 47_028_279, "f5c4f7ead5d964fb4af42bbf1e6d3ec3c1e6e9d83b53749f691d387e7fcaa3a7"),
    ("nvidia-nvvm", VERSION, 12, 75_141_406, "c41bfa362e407405163f103c2229f0765f8cc2ed7d148b754dc77f228bf7e070"),
    ("nvidia-cuda-crt", VERSION, 17, 166_163, "e898b7f73d3035fa89915a3f7bf3b54a73e90249746111aed295822c4729bb29"),
    ("nvidia-cuda-runtime", VERSION, 17, 2_504_024, "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d"),
    ("nvidia-cuda-cccl", "13.3.5.0.6", 17, 4_113_651, "d5230098fa2df5021e1a00c0c4eee41797671a91119d31e892463e5ccf3ee326"),
    ("nvidia-cublas", "13.10.0.20", 5, 444_289_903, "dcc6d63884c53d07e267ce7e6feac17b2538cebaafec5db865736c3e28e4dc84"),
)
WHEELS = tuple(
    Distribution(project, f"{project.replace('-', '_')}-{version}-py3-none-{_MANYLINUX[age]}.whl", size, sha256)
    for project, version, age, size, sha256 in _ROWS
)
TOLD = (
    f"cuda, with nvcc {VERSION} of NVIDIA's wheels: {sum(wheel.size for wheel in WHEELS) // 10**6} MB to fetch, "
    f"{DISK // 10**6} MB of disk; half an hour to hours of compiling"
)


def is_here() -> bool:
    """Whether there are wheels for this machine."""
    return platform_tag() == "linux-x86_64"


def too_old() -> str:
    """What is said of a driver that would not run what is built, "" of any other, and of one that does not tell its version."""
    try:
        told = _DRIVER.read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(r"Module(?: for x86_64)? +(\d+)\.", told)
    if found is None or int(found[1]) >= OLDEST_DRIVER:
        return ""
    return f"an NVIDIA GPU is here, nvcc is not; that of the package index needs the driver {OLDEST_DRIVER}, here is {found[1]}"


def lay_out(parts: Iterable[Path], root: Path) -> None:
    """Make one toolkit of what was unpacked of each wheel; what is there is complete. Raises OSError."""
    if root.exists():
        return
    partial = root.with_suffix(".partial")
    for part in parts:
        for path in sorted(part.rglob("*")):
            target = partial / path.relative_to(part)
            if path.is_dir():
                target.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif not target.exists():
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.link(path, target)
    for library in RUNTIME:  # the linker looks for them without their version
        link = partial / _LIBRARIES / library.rpartition(".")[0]
        if not link.is_symlink():
            link.symlink_to(library)
    partial.rename(root)


def options(root: Path) -> tuple[str, ...]:
    """CMake's options that name the toolkit."""
    executable = "nvcc.exe" if sys.platform == "win32" else "nvcc"
    return (f"CMAKE_CUDA_COMPILER={root / 'bin' / executable}", f"CUDAToolkit_ROOT={root}")


def runtime(root: Path) -> list[Path]:
    """What the engine needs beside itself."""
    return [root / _LIBRARIES / name for name in RUNTIME]
