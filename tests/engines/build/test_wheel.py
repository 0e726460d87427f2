"""An engine packed for several CPUs: what is compiled once, what each time, and what a build that was ended goes on with."""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from serow.engines.build import wheel as module
from serow.engines.build.edit import BuildError
from serow.engines.build.toolchain import Toolchain, find_toolchain
from serow.engines.build.tools import CMAKE, NINJA
from serow.engines.build.wheel import Cpu, EngineWheel, find_cpus
from serow.engines.build.zig import Target
from serow.engines.home import EngineHome
from serow.errors import RequestError
from serow.registries.package_index.pip_config import PipConfig
from tests.engines.fake import PROGRAM, Fake, make_sdist

CPUS = (Cpu("wide", "x86_64_v4", ("avx512f",)), Cpu("narrow", "x86_64_v3", ("avx2",)))
needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or not (shutil.which("c++") and CMAKE.installed() and NINJA.installed()),
    reason="needs a C++ compiler, cmake and ninja",
)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's compiler in the place of zig's."""

    def toolchain(_: Target) -> Toolchain:
        return find_toolchain(cpu_only=True)

    monkeypatch.setattr(module, "foreign_toolchain", toolchain)


async def made(home: EngineHome, fake: Fake, directory: Path) -> list[str]:
    """What is told while the wheel is made."""
    config = PipConfig(indexes=(), find_links=(str(fake.path.parent),))
    return [step.status async for step in EngineWheel(home, "ik", fake.recipe, "x86_64", CPUS).make(config, directory)]


@needs_compiler
@pytest.mark.usefixtures("native")
async def test_every_variant_is_in_the_wheel_and_a_second_one_only_packs(tmp_path: Path) -> None:
    fake = make_sdist(tmp_path / "index", PROGRAM, LICENSE="MIT")
    home = EngineHome(tmp_path / "cache")
    told = await made(home, fake, tmp_path / "dist")
    assert [status for status in told if "unpacking" in status] == [f"wide: unpacking {fake.path.name}"]
    assert {"wide: compiling", "narrow: configuring", "packing"} <= set(told)
    [path] = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(path) as file:
        manifest = json.loads(file.read("serow_engine_ik/engine.json"))
        entries = {entry.filename: entry.external_attr >> 16 for entry in file.infolist()}
    assert [variant["name"] for variant in manifest["variants"]] == ["wide", "narrow"]
    assert entries["serow_engine_ik/narrow/llama-server"] == 0o100755
    assert await made(home, fake, tmp_path / "dist") == ["packing"]
    assert EngineWheel(home, "ik", fake.recipe, "x86_64", CPUS).is_compiled


@needs_compiler
@pytest.mark.usefixtures("native")
async def test_a_build_that_fails_makes_no_wheel(tmp_path: Path) -> None:
    fake = make_sdist(tmp_path / "index", PROGRAM, LICENSE="MIT", main_cpp="#error\n")
    with pytest.raises(BuildError):
        await made(EngineHome(tmp_path / "cache"), fake, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_an_unknown_machine_or_variant_is_told_with_those_that_there_are() -> None:
    with pytest.raises(RequestError, match=r"^engines are not packed for riscv64$") as machine:
        find_cpus("riscv64", [])
    with pytest.raises(RequestError, match=r"^there is no variant 'x86-64-v9'$") as variant:
        find_cpus("x86_64", ["x86-64-v9"])
    assert (machine.value.hint, variant.value.hint.split()[-1]) == ("machines: x86_64, aarch64", "x86-64-v3")
    assert [cpu.name for cpu in find_cpus("x86_64", ["x86-64-v3"])] == ["x86-64-v3"]
    assert len(find_cpus("aarch64", [])) == 2
