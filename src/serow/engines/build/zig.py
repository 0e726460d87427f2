"""The compiler of the `ziglang` wheel: clang with its own headers and C libraries, for machines that have no compiler.

It is one program of many names; CMake wants a file for each, so they are written as scripts of two lines. An old glibc is
named as its target: what it builds runs there and on every newer one, whichever this machine has.
"""

import platform
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from serow.engines.build.tools import ZIG, platform_tag

OLDEST_GLIBC = (2, 28)  # of 2018, which manylinux_2_28 means
# The C and C++ libraries are built anew for each way to link, which takes a minute or two: all calls link the same way.
_LINKED = ("-O2", "-s")
_SCRIPTS = {"C_COMPILER": "cc", "CXX_COMPILER": "c++", "AR": "ar", "RANLIB": "ranlib"}  # by CMake's name: zig's command
_NATIVE = ("NATIVE", "AVX", "AVX2", "FMA", "F16C")  # ggml's options that would name a CPU beside ours


@dataclass(frozen=True)
class Target:
    """What is compiled for: a system as zig names it, and the CPU of ggml's kernels by LLVM's name, "" for this one."""

    system: str  # "x86_64-linux-gnu.2.28"
    cpu: str = ""  # "x86_64_v4+avx512vnni"

    @property
    def options(self) -> tuple[str, ...]:
        """CMake's options, without -D, whichever the CPU."""
        machine = self.system.partition("-")[0]
        foreign = ("CMAKE_SYSTEM_NAME=Linux", f"CMAKE_SYSTEM_PROCESSOR={machine}") if machine != platform.machine() else ()
        return (*foreign, "GGML_OPENMP=OFF", "CMAKE_TRY_COMPILE_CONFIGURATION=Release")

    @property
    def cpu_options(self) -> tuple[str, ...]:
        """Those that name the CPU. Only ggml's objects change with them."""
        return (*(f"GGML_{name}=OFF" for name in _NATIVE), f"GGML_ARCH_FLAGS=-mcpu={self.cpu}") if self.cpu else ()


def is_here() -> bool:
    """Whether there is a wheel of it for this machine."""
    return sys.platform == "linux" and platform_tag() in ZIG.wheels


def this_machine() -> Target:
    """The machine that we run on, with a C library that is no newer than its own."""
    libc, version = platform.libc_ver()
    machine = platform.machine().lower()
    if libc != "glibc":
        return Target(f"{machine}-linux-musl")
    major, minor = min(OLDEST_GLIBC, tuple(int(part) for part in version.split(".")[:2]))
    return Target(f"{machine}-linux-gnu.{major}.{minor}")


def write_scripts(zig: Path, target: Target, directory: Path) -> None:
    """Write what CMake calls: compilers for the target, and archivers. What they make names no place of this machine."""
    directory.mkdir(mode=0o700, exist_ok=True)
    relative = f"-ffile-prefix-map={directory.parent}=."
    for name in _SCRIPTS.values():
        aimed = ["-target", target.system, relative, *_LINKED] if name in ("cc", "c++") else []
        path = directory / name
        path.write_text(f'#!/bin/sh\nexec {shlex.join([str(zig), name, *aimed])} "$@"\n')
        path.chmod(0o700)


def script_options(directory: Path) -> tuple[str, ...]:
    """CMake's options that name the scripts."""
    return tuple(f"CMAKE_{option}={directory / name}" for option, name in _SCRIPTS.items())
