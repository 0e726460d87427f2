"""CUDA from the package index: when it is taken, how its wheels become a toolkit, and what goes beside the engine."""

import hashlib
import platform
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from serow.engines.build import backends, cuda
from serow.engines.build.backends import Gpu, find_gpu
from serow.engines.build.build import Plan, Workshop
from serow.engines.build.cuda import lay_out, too_old
from serow.engines.build.sources import Backend
from serow.engines.build.toolchain import find_toolchain
from serow.engines.build.tools import CMAKE, NINJA
from serow.engines.home import EngineHome
from serow.errors import RequestError
from serow.registries.package_index.distribution import Distribution
from tests.engines.build.test_build import built, near
from tests.engines.build.test_toolchain import bare
from tests.engines.build.test_tools import path, stand_in
from tests.engines.fake import make_sdist

__all__ = ["bare", "path"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are wheels for Linux only")
OLD = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.10  Thu Jan  2 03:04:05 UTC 2025\nGCC version: 12\n"
NEW = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  590.44.01  Release Build\n"


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: Path) -> Path:
    """A machine with a card and no toolkit; the file where its driver tells its version."""
    monkeypatch.setattr(backends, "_has_nvidia", lambda: True)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(cuda, "_DRIVER", tmp_path / "version")
    return tmp_path / "version"


@pytest.mark.req("DEV-08")
@pytest.mark.parametrize("told", [NEW, "", None])
def test_a_card_without_a_toolkit_gets_that_of_the_package_index_and_its_size_is_told(card: Path, told: str | None) -> None:
    if told is not None:
        card.write_text(told)
    gpu = find_gpu()
    assert (gpu.backend, gpu.wheels) == (Backend.CUDA, cuda.WHEELS)
    assert gpu.told.startswith("cuda, with nvcc 13.5.37 of NVIDIA's wheels: 573 MB to fetch, 2100 MB of disk")


@pytest.mark.req("DEV-08")
def test_a_driver_that_would_not_run_it_is_told_before_anything_is_fetched(card: Path) -> None:
    card.write_text(OLD)
    words = "an NVIDIA GPU is here, nvcc is not; that of the package index needs the driver 580, here is 570"
    assert too_old() == words and find_gpu() == Gpu(f"none: {words}")


@pytest.mark.req("DEV-08")
def test_a_toolkit_that_is_here_comes_before_the_wheels(card: Path, path: Path) -> None:
    nvcc = stand_in(path, "nvcc", "")
    assert find_gpu() == Gpu(f"cuda, with {nvcc}", Backend.CUDA, (f"CMAKE_CUDA_COMPILER={nvcc}",))


@pytest.mark.req("DEV-08")
def test_a_machine_without_wheels_says_what_is_missing(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert find_gpu() == Gpu("none: an NVIDIA GPU is here, nvcc is not")


@pytest.mark.req("DEV-08")
def test_the_wheels_become_one_toolkit_with_the_names_that_a_linker_looks_for(tmp_path: Path) -> None:
    for name in ("one/bin/nvcc", "two/include/cublas.h", "two/lib/libcublas.so.13", "one/include/crt/math.h"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    for name in cuda.RUNTIME:
        (tmp_path / "two/lib" / name).write_text(name)
    root = tmp_path / "cuda"
    for _ in range(2):  # the second time it is there
        lay_out([tmp_path / "one", tmp_path / "two"], root)
    assert (root / "bin/nvcc").read_text() == "one/bin/nvcc" and (root / "include/crt/math.h").is_file()
    assert (root / "lib/libcublas.so").read_text() == (root / "lib/libcublas.so.13").read_text()
    assert [each.name for each in cuda.runtime(root) if not each.is_file()] == []


def wheel(directory: Path, project: str, *names: str) -> Distribution:
    """A wheel with files of these names."""
    file = directory / f"{project.replace('-', '_')}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(f"{cuda.SUBTREE}/{name}", name)
    data = file.read_bytes()
    return Distribution(project, file.name, len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.req("DEV-08")
@pytest.mark.skipif(
    not (shutil.which("c++") and CMAKE.installed() and NINJA.installed()), reason="needs a compiler, cmake, ninja"
)
async def test_what_an_engine_needs_to_run_lies_beside_it_and_is_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
    fake = make_sdist(tmp_path)
    toolkit = (
        wheel(tmp_path, "nvidia-nvcc", "bin/nvcc", "lib/libcudart.so.13"),
        wheel(tmp_path, "nvidia-cublas", "lib/libcublas.so.13", "lib/libcublasLt.so.13"),
    )
    toolchain = find_toolchain(cpu_only=True)
    object.__setattr__(toolchain, "gpu", Gpu("cuda", Backend.CUDA, cuda.OPTIONS, toolkit))
    home, plan = EngineHome(tmp_path / "engines"), Plan("ik", fake.recipe, toolchain)
    home.claim()
    monkeypatch.setattr(cuda, "DISK", 0)
    assert [each.project for each in plan.downloads][-2:] == ["nvidia-nvcc", "nvidia-cublas"]
    await built(Workshop(home, plan), near(fake))
    executable = home.find("ik").executable
    assert executable
    assert sorted(each.name for each in (executable.parent / "lib").iterdir()) == sorted(cuda.RUNTIME)
    assert home.build_of("ik") and home.find("ik").has_gpu
    assert b"$ORIGIN/lib" in executable.read_bytes()
    stranger = executable.parent / "lib" / "mine.so"
    stranger.touch()
    with pytest.raises(RequestError, match="holds other files"):
        home.remove("ik")
    stranger.unlink()
    home.remove("ik")
    assert not executable.parent.exists()
