"""What this machine builds with: its compiler, CMake, ninja, and the GPU that is built for."""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from serow.engines.build.backends import Gpu, find_gpu
from serow.engines.build.edit import BuildError
from serow.engines.build.tools import CMAKE, NINJA, TOOLS, Tool
from serow.registries.package_index.distribution import Distribution

_DEADLINE = 30  # seconds for a compiler to answer
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
    compiler = find_compiler()
    found = {tool.name: tool.installed() for tool in TOOLS}
    return Toolchain(
        compiler=compiler,
        cpu=_cpu(),
        gpu=Gpu("none: --cpu") if cpu_only else find_gpu(),
        installed={name: installed for name, installed in found.items() if installed},
        wheels={tool.name: tool.wheel() for tool in (CMAKE, NINJA) if not found[tool.name]},
        flags=_NO_AMX if _has_amx() and _accepts(compiler, _NO_AMX) else (),
    )


def find_compiler() -> Compiler:
    """The compilers that CC and CXX name, or the first pair on PATH; raises BuildError when there is none that runs."""
    for c, cxx in _pairs():
        paths = shutil.which(c), shutil.which(cxx)
        if paths[0] and paths[1] and (version := _version(paths[1])):
            return Compiler(paths[0], paths[1], version)
    raise BuildError("no C++ compiler is here", hint=_how_to_install())


def _pairs() -> list[tuple[str, str]]:
    if os.environ.get("CC") and os.environ.get("CXX"):
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
    return f"{_cpu_line('model name') or _brand() or platform.processor() or 'this CPU'} ({platform.machine()})"


def _cpu_line(name: str) -> str:
    """The first line of that name in /proc/cpuinfo, "" where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def _brand() -> str:
    if sys.platform != "darwin":
        return ""
    argv = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=_DEADLINE, check=False).stdout.strip()


def _has_amx() -> bool:
    return any(flag.startswith("amx") for flag in _cpu_line("flags").split())


def _accepts(compiler: Compiler, flags: tuple[str, ...]) -> bool:
    argv = [compiler.cxx, *flags, "-fsyntax-only", "-x", "c++", os.devnull]
    return subprocess.run(argv, capture_output=True, timeout=_DEADLINE, check=False).returncode == 0
