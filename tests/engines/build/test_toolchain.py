"""What a build finds on a machine: compilers, GPUs, and what it says when something is missing."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serow.engines.build import backends, cuda, toolchain, zig
from serow.engines.build.backends import Gpu, find_gpu
from serow.engines.build.edit import BuildError
from serow.engines.build.sources import Backend
from serow.engines.build.toolchain import find_compiler, find_toolchain
from serow.engines.build.tools import CMAKE, NINJA, ZIG
from serow.engines.build.zig import Target
from serow.system import cpu
from tests.engines.build.test_tools import path, stand_in

__all__ = ["path"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-ins are for Linux")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable names a compiler or an SDK, no GPU is here."""
    for name in ("CC", "CXX", "CUDA_HOME", "CUDA_PATH", "ROCM_PATH", "HIP_PATH", "VULKAN_SDK"):
        monkeypatch.delenv(name, raising=False)
    for name in ("_has_nvidia", "_has_amd", "_has_renderer", "_has_vulkan_headers"):
        monkeypatch.setattr(backends, name, lambda: False)
    for name in ("_CUDA", "_ROCM"):
        monkeypatch.setattr(backends, name, str(tmp_path / "nowhere"))


def announce(monkeypatch: pytest.MonkeyPatch, model: str, flags: str) -> None:
    """Let the kernel tell of another processor."""
    path = Path(os.environ["PATH"]) / "cpuinfo"
    path.write_text(f"processor\t: 0\nmodel name\t: {model}\nflags\t\t: {flags}\n")
    monkeypatch.setattr(cpu, "_CPUINFO", path)


def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that no wheel of a compiler is made for."""
    monkeypatch.setattr(zig, "is_here", lambda: False)


def compilers(directory: Path, c: str, cxx: str, says: str = "fine 1.2", status: int = 0) -> None:
    stand_in(directory, c, says, status)
    stand_in(directory, cxx, says, status)


def test_the_systems_compiler_comes_first(path: Path) -> None:
    compilers(path, "clang", "clang++", "clang 15")
    compilers(path, "cc", "c++", "cc 12.2")
    assert (find_compiler().cxx, find_compiler().version) == (str(path / "c++"), "cc 12.2")


def test_the_compiler_that_the_variables_name_is_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compilers(path, "cc", "c++")
    compilers(path, "gcc-14", "g++-14", "g++ 14")
    monkeypatch.setenv("CC", "gcc-14")
    monkeypatch.setenv("CXX", "g++-14")
    assert (find_compiler().c, find_compiler().version) == (str(path / "gcc-14"), "g++ 14")


def test_a_stand_in_for_a_compiler_that_is_not_installed_is_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compilers(path, "cc", "c++", "xcode-select: no developer tools were found", status=1)
    no_wheel(monkeypatch)
    with pytest.raises(BuildError, match=r"^no C\+\+ compiler is here$"):
        find_compiler()


def test_where_no_compiler_is_the_one_of_the_package_index_is_taken(path: Path) -> None:
    found = find_toolchain()
    assert found.wheels.keys() == {"cmake", "ninja", "ziglang"}
    assert dict(found.rows)["compiler"] == f"clang of ziglang {ZIG.version} from the package index"
    assert dict(found.rows)["GPU"] == "none: that needs a compiler of this machine"
    assert found.compiler_options(Path("/work"))[:2] == ("CMAKE_C_COMPILER=/work/cc", "CMAKE_CXX_COMPILER=/work/c++")


def test_compilers_that_the_variables_name_and_that_do_not_run_are_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc-99")
    monkeypatch.setenv("CXX", "g++-99")
    with pytest.raises(BuildError, match=r"^no C\+\+ compiler is here$"):
        find_compiler()


@pytest.mark.parametrize(
    ("libc", "system"),
    [
        (("glibc", "2.40"), "x86_64-linux-gnu.2.28"),
        (("glibc", "2.17"), "x86_64-linux-gnu.2.17"),
        (("", ""), "x86_64-linux-musl"),
    ],
)
def test_zig_aims_at_an_old_c_library_but_at_none_newer_than_this_machines(
    monkeypatch: pytest.MonkeyPatch, libc: tuple[str, str], system: str
) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert zig.this_machine() == Target(system)


def test_zigs_commands_become_programs_that_cmake_can_call(tmp_path: Path) -> None:
    (tmp_path / "a place").mkdir()
    stand_in(tmp_path / "a place", "zig", "")
    program = tmp_path / "a place" / "zig"
    program.write_text('#!/bin/sh\necho "$@"\n')
    zig.write_scripts(program, Target("x86_64-linux-gnu.2.28", "x86_64_v3"), tmp_path / "scripts")
    said = {name: subprocess.check_output([tmp_path / "scripts" / name, "-c", "a b.c"], text=True) for name in ("c++", "ar")}
    aimed = f"-target x86_64-linux-gnu.2.28 -ffile-prefix-map={tmp_path}=. -O2 -s"  # so that no path of this machine is in it
    assert said == {"c++": f"c++ {aimed} -c a b.c\n", "ar": "ar -c a b.c\n"}


def test_a_compiler_that_takes_for_ever_is_told_in_words(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compilers(path, "cc", "c++")
    (path / "c++").write_text('#!/bin/sh\necho fine\ncase "$*" in *amx*) while :; do :; done;; esac\n')
    monkeypatch.setattr(toolchain, "_FIRST_CALL", 0.5)
    announce(monkeypatch, "Xeon", "amx_tile")
    with pytest.raises(BuildError, match=r"c\+\+ took more than 0.5 seconds for an empty file$"):
        find_toolchain()


@pytest.mark.parametrize(
    ("release", "hint"),
    [
        ({"ID": "debian"}, "sudo apt install build-essential"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "sudo apt install build-essential"),
        ({"ID": "fedora"}, "sudo dnf install gcc gcc-c++"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "sudo dnf install gcc gcc-c++"),
        ({"ID": "opensuse-leap", "ID_LIKE": "suse opensuse"}, "sudo zypper install gcc gcc-c++"),
        ({"ID": "arch"}, "sudo pacman -S base-devel"),
        ({"ID": "alpine"}, "sudo apk add build-base linux-headers"),
        ({"ID": "plan9"}, "gcc and g++, or clang"),
    ],
)
def test_a_missing_compiler_is_told_with_the_package_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch, release: dict[str, str], hint: str
) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    no_wheel(monkeypatch)
    with pytest.raises(BuildError) as caught:
        find_toolchain()
    assert caught.value.hint == f"install one: {hint}"


@pytest.mark.parametrize(("system", "hint"), [("darwin", "xcode-select --install"), ("win32", "winget install")])
def test_other_systems_have_hints_of_their_own(path: Path, monkeypatch: pytest.MonkeyPatch, system: str, hint: str) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(BuildError) as caught:
        find_compiler()
    assert hint in caught.value.hint


def test_a_tool_that_is_not_here_comes_from_its_wheel(path: Path) -> None:
    compilers(path, "cc", "c++")
    stand_in(path, "ninja", "1.11.1")
    found = find_toolchain()
    assert found.wheels.keys() == {"cmake"}
    assert found.tool(NINJA, Path("/work")) == str(path / "ninja")
    assert found.tool(CMAKE, Path("/work")) == "/work/cmake/bin/cmake"
    assert dict(found.rows)["tools"] == f"cmake {CMAKE.version} from the package index, ninja 1.11.1"


def test_what_is_built_for_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compilers(path, "cc", "c++", "c++ 12.2")
    announce(monkeypatch, "Zilog Z80", "fpu")
    rows = dict(find_toolchain(cpu_only=True).rows)
    assert rows["compiler"] == "c++ 12.2"
    assert rows["for"].startswith("Zilog Z80 (")
    assert rows["GPU"] == "none: --cpu"


@pytest.mark.parametrize(("status", "is_left_out"), [(0, True), (1, False)])
def test_amx_is_left_out_where_the_compiler_knows_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, status: int, is_left_out: bool
) -> None:
    compilers(path, "cc", "c++")
    (path / "c++").write_text(f'#!/bin/sh\necho fine\ncase "$*" in *amx*) exit {status};; esac\n')
    announce(monkeypatch, "Xeon", "fpu avx512f amx_tile")
    assert ("-mno-amx-int8" in find_toolchain().flags) == is_left_out


def test_without_amx_there_are_no_flags_about_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compilers(path, "cc", "c++")
    announce(monkeypatch, "EPYC", "fpu avx512f")
    assert find_toolchain().flags == ()


def test_without_a_trace_of_a_gpu_there_is_none(path: Path) -> None:
    assert find_gpu() == Gpu("none")


def test_cuda_is_built_where_its_compiler_and_a_gpu_are(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = stand_in(path, "nvcc", "")
    monkeypatch.setattr(backends, "_has_nvidia", lambda: True)
    assert find_gpu() == Gpu(f"cuda, with {nvcc}", Backend.CUDA, (f"CMAKE_CUDA_COMPILER={nvcc}",))


def test_a_compiler_without_a_gpu_is_not_enough(path: Path) -> None:
    stand_in(path, "nvcc", "")
    assert find_gpu() == Gpu("none: nvcc is here, an NVIDIA GPU is not")


def test_a_gpu_without_a_compiler_is_not_enough(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_has_nvidia", lambda: True)
    monkeypatch.setattr(cuda, "is_here", lambda: False)
    assert find_gpu() == Gpu("none: an NVIDIA GPU is here, nvcc is not")


def test_a_compiler_is_found_where_its_sdk_says(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sdk" / "bin").mkdir(parents=True)
    nvcc = stand_in(tmp_path / "sdk" / "bin", "nvcc", "")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "sdk"))
    monkeypatch.setattr(backends, "_has_nvidia", lambda: True)
    assert find_gpu().told == f"cuda, with {nvcc}"


def test_one_gpu_is_built_for_and_cuda_comes_before_vulkan(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(path, "glslc", "")
    for name in ("_has_renderer", "_has_vulkan_headers"):
        monkeypatch.setattr(backends, name, lambda: True)
    assert find_gpu().backend is Backend.VULKAN
    stand_in(path, "nvcc", "")
    monkeypatch.setattr(backends, "_has_nvidia", lambda: True)
    assert find_gpu().backend is Backend.CUDA


@pytest.mark.parametrize(("machine", "backend"), [("arm64", Backend.METAL), ("x86_64", None)])
def test_metal_is_built_on_apples_own_processors(
    monkeypatch: pytest.MonkeyPatch, machine: str, backend: Backend | None
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert find_gpu().backend is backend
