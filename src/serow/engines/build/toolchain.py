"""What this machine builds with: its compiler, CMake, ninja, and the GPU that is built for."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serow.engines.build import zig
from serow.engines.build.backends import Gpu, find_gpu
from serow.engines.build.edit import BuildError
from serow.engines.build.tools import TOOLS, ZIG, Tool
from serow.engines.build.zig import Target
from serow.registries.package_index.distribution import Distribution
from serow.system.cpu import cpu_flags, cpu_line

_DEADLINE = 30  # seconds for a program to say what it is
_FIRST_CALL = 300  # for a compiler that builds its own library when it is called first
_PACKAGES = {  # where they are found by the ID or ID_LIKE of /etc/os-release
    "debian": "sudo apt install build-essential",
    "ubuntu": "sudo apt install build-essential",
    "fedora": "sudo dnf install gcc gcc-c++",
    "rhel": "sudo dnf install gcc gcc-c++",
    "suse": "sudo zypper install gcc gcc-c++",
    "arch": "sudo pacman -S base-devel",
    "alpine": "sudo apk add build-base linux-headers",
}
# Virtual machines announce AMX and fault on it; its code is left out, where the compiler knows it at all.
_NO_AMX = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")


@dataclass(frozen=True)
class Compiler:
    """A C and a C++ compiler. `version` is what the latter says of itself."""

    c: str
    cxx: str
    version: str
    target: Target | None = None  # of zig's, which comes in a wheel


@dataclass(frozen=True)
class Toolchain:
    """All that a build needs of the machine. Tools that are not installed come from the package index."""

    compiler: Compiler
    cpu: str
    gpu: Gpu
    installed: dict[str, tuple[str, str]]  # tool: path, version
    wheels: dict[str, Distribution]
    flags: tuple[str, ...] = ()  # for C and C++

    def tool(self, tool: Tool, directory: Path) -> str:
        """The path of a tool, which lies below `directory` when it came in a wheel."""
        if tool.name in self.installed:
            return self.installed[tool.name][0]
        return str(directory / tool.name / (f"{tool.executable}.exe" if sys.platform == "win32" else tool.executable))

    def compiler_options(self, directory: Path) -> tuple[str, ...]:
        """CMake's options that name the compilers; zig's scripts lie in `directory`."""
        if self.compiler.target:
            return zig.script_options(directory)
        return (f"CMAKE_C_COMPILER={self.compiler.c}", f"CMAKE_CXX_COMPILER={self.compiler.cxx}")

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What it is, for people."""
        return [
            ("compiler", self.compiler.version),
            ("tools", ", ".join(self._told(tool) for tool in TOOLS)),
            ("for", self.cpu),
            ("GPU", self.gpu.told),
        ]

    def _told(self, tool: Tool) -> str:
        if tool.name in self.installed:
            return f"{tool.name} {self.installed[tool.name][1]}"
        return f"{tool.name} {tool.version} from the package index"


def find_toolchain(*, cpu_only: bool = False) -> Toolchain:
    """Look at this machine; raises BuildError, with the package to install, when something can't be had."""
    compiler, installed = find_compiler(), _installed()
    return Toolchain(
        compiler=compiler,
        cpu=_cpu(),
        gpu=_gpu(compiler, cpu_only=cpu_only),
        installed=installed,
        wheels=_wheels(compiler, installed),
        flags=_NO_AMX if _has_amx() and _accepts(compiler, _NO_AMX) else (),
    )


def foreign_toolchain(target: Target) -> Toolchain:
    """What compiles for a target that need not be this machine; raises BuildError."""
    compiler = _wheel_compiler(target)
    installed = _installed()
    return Toolchain(compiler, target.cpu, Gpu("none"), installed, _wheels(compiler, installed))


def _installed() -> dict[str, tuple[str, str]]:
    found = {tool.name: tool.installed() for tool in TOOLS}
    return {name: installed for name, installed in found.items() if installed}


def _wheels(compiler: Compiler, installed: Mapping[str, object]) -> dict[str, Distribution]:
    """What is fetched: tools that are not installed, and the compiler that comes in a wheel."""
    wanted = [tool for tool in TOOLS if tool.name not in installed] + [ZIG] * bool(compiler.target)
    return {tool.name: tool.wheel() for tool in wanted}


def _gpu(compiler: Compiler, *, cpu_only: bool) -> Gpu:
    if cpu_only:
        return Gpu("none: --cpu")
    return Gpu("none: that needs a compiler of this machine") if compiler.target else find_gpu()


def find_compiler() -> Compiler:
    """The compilers that CC and CXX name, or the first pair on PATH, or else zig's of the package index.

    Raises BuildError when there is none that runs.
    """
    for c, cxx in _pairs():
        paths = shutil.which(c), shutil.which(cxx)
        if paths[0] and paths[1] and (version := _version(paths[1])):
            return Compiler(paths[0], paths[1], version)
    if zig.is_here() and not _named():
        return _wheel_compiler(zig.this_machine())
    raise BuildError("no C++ compiler is here", hint=_how_to_install())


def _wheel_compiler(target: Target) -> Compiler:
    """The one that comes in a wheel."""
    return Compiler("", "", f"clang of {ZIG.name} {ZIG.version} from the package index", target)


def _named() -> bool:
    """Whether the user says which compilers to take."""
    return bool(os.environ.get("CC") and os.environ.get("CXX"))


def _pairs() -> list[tuple[str, str]]:
    if _named():
        return [(os.environ["CC"], os.environ["CXX"])]
    if sys.platform == "win32":
        return [("cl", "cl"), ("clang-cl", "clang-cl")]
    return [("cc", "c++"), ("gcc", "g++"), ("clang", "clang++")]


def _version(compiler: str) -> str:
    """The first line that it says; "" when it does not run, as Apple's stand-in for one that is not installed."""
    try:
        ran = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=_DEADLINE, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    is_cl = Path(compiler).stem.lower() == "cl"  # says what it is, and fails for want of a file
    lines = (ran.stdout + (ran.stderr if is_cl else "")).strip().splitlines()
    return lines[0].strip() if lines and (is_cl or ran.returncode == 0) else ""


def _how_to_install() -> str:
    if sys.platform == "darwin":
        return "install one: xcode-select --install"
    if sys.platform == "win32":
        return (
            "install one: winget install Microsoft.VisualStudio.2022.BuildTools, with the C++ workload; "
            "then build in its x64 Native Tools Command Prompt"
        )
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    ids = (release.get("ID", ""), *release.get("ID_LIKE", "").split())
    return f"install one: {next((_PACKAGES[name] for name in ids if name in _PACKAGES), 'gcc and g++, or clang')}"


def _cpu() -> str:
    """What the processor is called, and its architecture."""
    return f"{cpu_line('model name') or _brand() or platform.processor() or 'this CPU'} ({platform.machine()})"


def _brand() -> str:
    if sys.platform != "darwin":
        return ""
    argv = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=_DEADLINE, check=False).stdout.strip()


def _has_amx() -> bool:
    return any(flag.startswith("amx") for flag in cpu_flags())


def _accepts(compiler: Compiler, flags: tuple[str, ...]) -> bool:
    """Whether it compiles with these flags; raises BuildError for one that never comes to an end."""
    if compiler.target:  # the version is ours to know
        return True
    with tempfile.TemporaryDirectory(prefix="serow-compiler-") as directory:
        source = Path(directory, "empty.cpp")
        source.touch()
        argv = [compiler.cxx, *flags, "-c", str(source), "-o", str(source.with_suffix(".o"))]
        try:
            return subprocess.run(argv, capture_output=True, timeout=_FIRST_CALL, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            raise BuildError(f"{compiler.cxx} took more than {_FIRST_CALL} seconds for an empty file") from None
