"""Building an engine from a tiny sdist, with a real CMake, ninja and compiler; and what goes wrong on the way."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from serow.engines.build import build as module
from serow.engines.build.backends import Gpu
from serow.engines.build.build import Plan, Progress, Workshop
from serow.engines.build.edit import BuildError
from serow.engines.build.sources import RECIPES, Backend, Recipe
from serow.engines.build.toolchain import Toolchain, find_toolchain
from serow.engines.build.tools import CMAKE, NINJA
from serow.engines.build.unpack import unpack
from serow.engines.home import Build, EngineHome
from serow.errors import PullError, RequestError, StoreError
from serow.registries.package_index.download import download
from serow.registries.package_index.pip_config import PipConfig, load
from tests.engines.fake import FILENAME, FIRST, GATE, PROGRAM, PROJECT, Fake, make_sdist
from tests.registries.package_index.conftest import Index, serving

DEADLINE = 100.0  # seconds
OLD = Build(sha256="ab" * 32, source="older-0.9.tar.gz", built_at="2026-01-02T03:04:05+00:00")

pytestmark = pytest.mark.skipif(
    not (shutil.which("c++") and CMAKE.installed() and NINJA.installed()), reason="needs a C++ compiler, cmake and ninja"
)
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs signals and named pipes")


@pytest.fixture
def home(tmp_path: Path) -> EngineHome:
    """A directory with an engine that was built before, "old"."""
    made = EngineHome(tmp_path / "engines")
    made.claim()
    (made.root / "made").write_text("old")
    made.install("ik", made.root / "made", OLD)
    return made


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    """This machine's, for the CPU."""
    return find_toolchain(cpu_only=True)


def workshop(home: EngineHome, fake: Fake, toolchain: Toolchain) -> Workshop:
    return Workshop(home, Plan("ik", fake.recipe, toolchain))


async def built(shop: Workshop, config: PipConfig) -> list[Progress]:
    """All that is told while it is built."""
    told = []
    async with asyncio.timeout(DEADLINE):
        with shop.lock():
            for records in (shop.fetch(config), shop.make()):
                async with aclosing(records):
                    told += [record async for record in records]
    return told


def near(fake: Fake) -> PipConfig:
    """pip's settings that name the directory of the sdist."""
    return PipConfig(indexes=(), find_links=(str(fake.path.parent),))


def says(home: EngineHome) -> str:
    """What the installed engine says when it is asked for its version."""
    executable = home.find("ik").executable
    assert executable
    return subprocess.run([executable, "--version"], capture_output=True, text=True, check=True, timeout=DEADLINE).stdout


def read(path: Path) -> str:
    return path.read_text()


def left_over(home: EngineHome) -> list[str]:
    return sorted(path.name for path in home.workplace("ik").iterdir())


async def refused(home: EngineHome, shop: Workshop, fake: Fake) -> BuildError:
    """The error of a build that fails; the old engine is still there."""
    with pytest.raises(BuildError) as caught:
        await built(shop, near(fake))
    assert home.build_of("ik") == OLD
    return caught.value


async def test_an_engine_is_built_edited_and_takes_the_place_of_the_old_one(
    home: EngineHome, toolchain: Toolchain, tmp_path: Path
) -> None:
    fake = make_sdist(tmp_path / "index")
    shop = workshop(home, fake, toolchain)
    told = await built(shop, near(fake))
    assert says(home) == "version: edited\n"
    build = home.build_of("ik")
    assert build and (build.source, build.backends) == (FILENAME, ())
    assert home.find("ik").build == build.sha256[:12]
    statuses = list(dict.fromkeys(record.status for record in told))
    assert statuses == [f"fetching {FILENAME}", f"unpacking {FILENAME}", "configuring", "compiling", "trying it", "installing"]
    steps = [(record.completed, record.total) for record in told if record.status == "compiling"]
    assert steps[-1] == (4, 4)
    assert left_over(home) == ["build.log"]


async def test_what_builds_sees_no_secrets(
    home: EngineHome, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SEROW_API_KEY", "HF_TOKEN", "OTEL_EXPORTER_OTLP_HEADERS", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "secret")
    fake = make_sdist(tmp_path / "index")
    shop = workshop(home, fake, toolchain)
    await built(shop, near(fake))
    assert "environment: [] native: ON" in read(shop.log)


async def test_a_compiler_that_fails_is_told_with_its_error_and_the_log(
    home: EngineHome, toolchain: Toolchain, tmp_path: Path
) -> None:
    fake = make_sdist(tmp_path / "index", main_cpp='#error "broken on purpose"\n')
    shop = workshop(home, fake, toolchain)
    error = await refused(home, shop, fake)
    assert str(error).startswith("ninja ended with status 1\n")
    assert "broken on purpose" in str(error)
    assert error.hint == f"the whole log: {shop.log}"
    assert "broken on purpose" in read(shop.log)


async def test_a_program_that_fails_on_a_full_disk_is_told_as_that(
    home: EngineHome, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = make_sdist(tmp_path / "index", main_cpp='#error "broken on purpose"\n')
    shop = workshop(home, fake, toolchain)
    sizes = iter((10**9, 0))  # there was enough when it began
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, next(sizes, 0)))
    error = await refused(home, shop, fake)
    assert str(error).startswith("the disk is full: ninja ended with status 1\n")
    assert error.hint == f"free some space, the build goes on; the whole log: {shop.log}"


async def test_sources_that_can_not_be_configured_are_told_as_cmakes_failure(
    home: EngineHome, toolchain: Toolchain, tmp_path: Path
) -> None:
    fake = make_sdist(tmp_path / "index", 'message(FATAL_ERROR "no such platform")\n')
    error = await refused(home, workshop(home, fake, toolchain), fake)
    assert str(error).startswith("cmake ended with status 1\n")
    assert "CMake Error" in str(error)


async def test_an_edit_that_does_not_fit_ends_the_build_and_is_tried_anew(
    home: EngineHome, toolchain: Toolchain, tmp_path: Path
) -> None:
    fake = make_sdist(tmp_path / "index", first_cpp=FIRST.replace("AS IT CAME", "CHANGED"))
    shop = workshop(home, fake, toolchain)
    for _ in range(2):
        error = await refused(home, shop, fake)
        assert str(error).startswith("first.cpp is not as it should be")


def written(text: str, mode: str = "OWNER_READ OWNER_EXECUTE") -> str:
    """What makes a file with that text out of the executable."""
    return f"""\
file(WRITE ${{CMAKE_BINARY_DIR}}/made/llama-server "{text}")
add_custom_target(llama-server COMMAND ${{CMAKE_COMMAND}} -P ${{CMAKE_BINARY_DIR}}/copy.cmake)
file(WRITE ${{CMAKE_BINARY_DIR}}/copy.cmake
    "file(COPY ${{CMAKE_BINARY_DIR}}/made/llama-server DESTINATION ${{CMAKE_BINARY_DIR}}/bin FILE_PERMISSIONS {mode})")
"""


@posix
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (written("this is text"), "what was built is no program"),
        (written("#!/bin/sh\\n", "OWNER_READ"), "what was built is no program"),
        ("add_custom_target(llama-server)\n", "what was built is no program"),
        (written("#!/bin/sh\\necho hello\\n"), "what was built is no llama-server: it does not say its version"),
        (written("#!/bin/sh\\nexec cat /dev/zero\\n"), "what was built is no llama-server: it does not say its version"),
        (written("#!/bin/sh\\necho version\\nkill -4 $$\\n"), "llama-server ended with signal 4\n  version"),
    ],
    ids=["text", "not executable", "nothing", "another program", "endless", "crash"],
)
async def test_an_executable_that_is_none_is_refused_and_the_old_engine_stays(
    home: EngineHome, toolchain: Toolchain, tmp_path: Path, build: str, message: str
) -> None:
    fake = make_sdist(tmp_path / "index", build)
    error = await refused(home, workshop(home, fake, toolchain), fake)
    assert str(error) == message


@posix
async def test_an_executable_that_hangs_is_ended_after_its_deadline(
    home: EngineHome, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VERSION_DEADLINE", 0.5)
    fake = make_sdist(tmp_path / "index", written("#!/bin/sh\\necho $$\\nexec tail -f /dev/null\\n"))
    shop = workshop(home, fake, toolchain)
    error = await refused(home, shop, fake)
    assert str(error) == "the engine that was built hangs"
    assert not psutil.pid_exists(int(read(shop.log).split()[-1]))


async def test_an_sdist_with_another_digest_is_refused_and_thrown_away(
    home: EngineHome, toolchain: Toolchain, tmp_path: Path
) -> None:
    fake = make_sdist(tmp_path / "index")
    data = bytearray(fake.path.read_bytes())
    data[-1] ^= 1
    fake.path.write_bytes(data)
    with pytest.raises(PullError, match=rf"^digest mismatch: {FILENAME}"):
        await built(workshop(home, fake, toolchain), near(fake))
    assert FILENAME not in left_over(home)
    assert home.build_of("ik") == OLD


async def test_half_an_sdist_is_gone_on_with(home: EngineHome, toolchain: Toolchain, tmp_path: Path) -> None:
    fake = make_sdist(tmp_path / "index")
    data = fake.path.read_bytes()
    home.workplace("ik").mkdir(parents=True)
    (home.workplace("ik") / FILENAME).write_bytes(data[:300])
    index = Index({FILENAME: data}, pages={PROJECT: f'<a href="../../files/{FILENAME}">sdist</a>'})
    async with serving(index):
        await built(workshop(home, fake, toolchain), PipConfig(indexes=(index.url,)))
    assert index.asked == [PROJECT, f"{FILENAME} 300"]
    assert says(home) == "version: edited\n"


async def test_a_disk_without_room_is_said_before_anything_is_fetched(
    home: EngineHome, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 0))
    fake = make_sdist(tmp_path / "index")
    error = await refused(home, workshop(home, fake, toolchain), fake)
    assert str(error) == "building ik needs 1 MB of disk, 0 MB are free"
    assert "SEROW_ENGINES" in error.hint
    assert FILENAME not in left_over(home)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of one megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = shutil.which("mount")
    argv = [mount or "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if not mount or subprocess.run(argv, capture_output=True, check=False, timeout=DEADLINE).returncode:
        pytest.skip("no small disk can be mounted here")
    yield path
    subprocess.run(["umount", str(path)], check=True, timeout=DEADLINE)


async def test_a_disk_that_fills_up_leaves_the_old_engine_and_with_room_the_build_succeeds(
    small_disk: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    home = EngineHome(small_disk)
    home.claim()
    (small_disk / "made").write_text("old")
    home.install("ik", small_disk / "made", OLD)
    fake = make_sdist(tmp_path / "index", large_txt=bytes(2 << 20))
    shop = workshop(home, fake, toolchain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workshop, "_require_space", lambda _: None)
        with pytest.raises(StoreError, match=r"^no space left on the disk of the engines$"):
            await built(shop, near(fake))
    assert home.build_of("ik") == OLD
    remount = ["mount", "-o", "remount,size=64m", str(small_disk)]
    await asyncio.to_thread(subprocess.run, remount, check=True, timeout=DEADLINE)
    await built(shop, near(fake))
    assert says(home) == "version: edited\n"


async def test_two_builds_of_an_engine_do_not_meet(home: EngineHome, toolchain: Toolchain, tmp_path: Path) -> None:
    fake = make_sdist(tmp_path / "index")
    shop = workshop(home, fake, toolchain)
    with shop.lock(), pytest.raises(RequestError, match=r"^the engine ik is being built$"):
        await built(workshop(home, fake, toolchain), near(fake))


async def test_what_was_begun_with_other_sources_or_options_is_thrown_away(
    home: EngineHome, toolchain: Toolchain, tmp_path: Path
) -> None:
    broken = make_sdist(tmp_path / "index", main_cpp="#error\n")
    await refused(home, workshop(home, broken, toolchain), broken)
    begun = set(left_over(home))
    fake = make_sdist(tmp_path / "index")
    with workshop(home, fake, toolchain).lock():
        kept = set(left_over(home))
    assert kept & begun == {"build.log", FILENAME}


def test_a_gpu_is_switched_on_and_the_others_off(toolchain: Toolchain, tmp_path: Path) -> None:
    gpu = Gpu("cuda", Backend.CUDA, ("CMAKE_CUDA_COMPILER=/usr/bin/nvcc",))
    parts = (toolchain.compiler, "a CPU", gpu, toolchain.installed, toolchain.wheels, ("-mno-amx-tile",))
    fake, plain = make_sdist(tmp_path), Toolchain(toolchain.compiler, "a CPU", Gpu("none"), {}, {})
    options = Plan("ik", fake.recipe, Toolchain(*parts)).options
    assert options[-3:] == ["GGML_CUDA=ON", "GGML_METAL=OFF", "CMAKE_CUDA_COMPILER=/usr/bin/nvcc"]
    assert "CMAKE_CXX_FLAGS=-mno-amx-tile" in options
    assert Plan("ik", fake.recipe, plain).options[-2:] == ["GGML_CUDA=OFF", "GGML_METAL=OFF"]


@posix
def test_a_killed_build_leaves_no_process_and_goes_on_with_what_is_there(home: EngineHome, tmp_path: Path) -> None:
    fake = make_sdist(tmp_path / "index", GATE)
    for name in ("reached", "word"):
        os.mkfifo(tmp_path / name)
    environ = {**os.environ, "SEROW_ENGINES": str(home.root), "GATE": str(tmp_path), "PIP_NO_INDEX": "1"}
    environ["PIP_FIND_LINKS"] = str(fake.path.parent)
    argv = [sys.executable, "-m", "tests.engines.fake", str(fake.path), "engine", "build", "ik", "--cpu"]
    with subprocess.Popen(argv, env=environ, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        assert (tmp_path / "reached").read_text() == "reached\n"
        children = psutil.Process(process.pid).children(recursive=True)
        assert {"ninja", "sh"} <= {child.name() for child in children}
        os.killpg(process.pid, signal.SIGKILL)
    assert psutil.wait_procs(children, DEADLINE)[1] == []
    assert home.build_of("ik") == OLD
    (tmp_path / "open").touch()
    ran = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True, timeout=DEADLINE)
    assert ran.stderr.splitlines()[-1] == "hint: serow engine check ik MODEL lets models use it"
    assert says(home) == "version: edited\n"
    log = (home.workplace("ik") / "build.log").read_text()
    assert "main.cpp" in log
    assert "first.cpp" not in log


LARGE = pytest.mark.skipif(not os.environ.get("SEROW_TEST_LARGE"), reason="takes minutes: set SEROW_TEST_LARGE=1")


@LARGE
@pytest.mark.large
async def test_cmake_and_ninja_of_the_package_index_build_as_well(
    home: EngineHome, toolchain: Toolchain, tmp_path: Path
) -> None:
    fake = make_sdist(tmp_path / "index", PROGRAM)
    wheels = {tool.name: tool.wheel() for tool in (CMAKE, NINJA)}
    config = load()
    both = PipConfig(config.indexes, (str(fake.path.parent), *config.find_links), config.cert, config.proxy)
    await built(workshop(home, fake, Toolchain(toolchain.compiler, "", Gpu("none"), {}, wheels)), both)
    assert says(home) == "version: edited\n"


@LARGE
@pytest.mark.large
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
async def test_every_edit_fits_the_sources_of_the_package_index(recipe: Recipe, tmp_path: Path) -> None:
    archive = tmp_path / recipe.sdist.filename
    async for _ in download(recipe.sdist, archive, load()):
        continue
    unpack(archive, recipe.subtree, tmp_path / "source")
    recipe.change(tmp_path / "source")


@LARGE
@pytest.mark.large
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", RECIPES)
async def test_every_engine_of_the_table_can_be_built(name: str, toolchain: Toolchain, tmp_path: Path) -> None:
    home = EngineHome(tmp_path)
    shop = Workshop(home, Plan(name, RECIPES[name], toolchain))
    with shop.lock():
        for records in (shop.fetch(load()), shop.make()):
            async for _ in records:
                continue
    assert home.find(name).executable
