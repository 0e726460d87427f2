"""Engines that came as packages: which variant is taken, and what is said of those that can't be."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

from serow import __version__
from serow.engines import packaged
from serow.engines.build.wheel import CPUS
from serow.engines.home import Build, EngineHome
from serow.engines.kinds import IK, WHEEL, Engine
from serow.engines.packaged import SPEAKS, sentences
from serow.errors import NotFound, RequestError
from serow.system import cpu
from tests.engines.package import GOOD, install, make_wheel

PACKAGE = f"serow-engine-ik {__version__}"
FAULT = "#!/bin/sh\nkill -4 $$\n"
WRONG = "#!/bin/sh\necho 'wrong: q4_K times 8' >&2\nexit 1\n"
V3, V4 = ("avx2", "fma"), ("avx2", "fma", "avx512f")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the package is for Linux")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of packages beside those of the tests, and a CPU with AVX-512."""
    path = tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(str(path))
    announce(tmp_path, monkeypatch, "avx2 fma avx512f")
    packaged._entries.cache_clear()
    yield path
    packaged._entries.cache_clear()


def announce(directory: Path, monkeypatch: pytest.MonkeyPatch, flags: str, *, told_as: str = "flags") -> None:
    path = directory / "cpuinfo" / hashlib.sha256(flags.encode()).hexdigest()
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"processor\t: 0\nmodel name\t: Zilog\n{told_as}\t\t: {flags}\n\nprocessor\t: 1\n")
    monkeypatch.setattr(cpu, "_CPUINFO", path)


@pytest.fixture
def home(tmp_path: Path) -> EngineHome:
    """A directory that does not exist yet."""
    return EngineHome(tmp_path / "engines")


def deliver(site: Path, *, speaks: int = SPEAKS, **variants: tuple[tuple[str, ...], str]) -> None:
    install(make_wheel(site.parent, variants, speaks=speaks), site)


def test_the_fastest_variant_that_the_cpu_has_and_that_works_is_an_engine(home: EngineHome, site: Path) -> None:
    deliver(site, v5=((*V4, "avx1024"), GOOD), v4=(V4, GOOD), v3=(V3, GOOD))
    found = home.register()["ik"]
    assert (found.package, found.variant, found.reason, found.skipped) == (PACKAGE, "v4", "", ())
    engine = home.find("ik")
    assert engine == Engine(IK, found.sha256[:12], site / "serow_engine_ik" / "v4" / "llama-server", has_gpu=False)
    assert home.engines() == [WHEEL, engine]


_HASWELL = "sse2 ssse3 fma movbe avx f16c abm bmi1 avx2 bmi2"
_SKYLAKE = f"{_HASWELL} avx512f avx512dq avx512cd avx512bw avx512vl"
_A72 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_A76 = f"{_A72} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp ssbs"


@pytest.mark.parametrize(
    ("machine", "flags", "variant"),
    [
        pytest.param("x86_64", f"{_SKYLAKE} avx512_vnni avx512_bf16 amx_tile amx_int8", "x86-64-v4-bf16", id="Sapphire Rapids"),
        pytest.param("x86_64", f"{_SKYLAKE} avx512_bf16 avx512_vnni avx512_vp2intersect", "x86-64-v4-bf16", id="Zen 5"),
        pytest.param("x86_64", f"{_SKYLAKE} avx512_vnni avx512_vbmi2", "x86-64-v4-vnni", id="Ice Lake"),
        pytest.param("x86_64", _SKYLAKE, "x86-64-v4", id="Skylake-X"),
        pytest.param("x86_64", f"{_HASWELL} avx512f avx512cd avx512er avx512pf", "x86-64-v3", id="Knights Landing"),
        pytest.param("x86_64", f"{_HASWELL} avx_vnni", "x86-64-v3", id="Alder Lake"),
        pytest.param("x86_64", _HASWELL, "x86-64-v3", id="Haswell"),
        pytest.param("x86_64", _HASWELL.replace(" fma", ""), "needs a CPU with fma, which this one lacks", id="without FMA"),
        pytest.param(
            "x86_64",
            "sse2 ssse3 avx",
            "needs a CPU with abm, avx2, bmi1, bmi2, f16c, fma, movbe, which this one lacks",
            id="Sandy Bridge",
        ),
        pytest.param("aarch64", f"{_A76} sve asimdfhm sve2 i8mm bf16", "armv8.2-i8mm", id="Neoverse V1"),
        pytest.param("aarch64", f"{_A76} asimdfhm dit uscat ilrcpc flagm sb i8mm bf16", "armv8.2-i8mm", id="M2"),
        pytest.param("aarch64", f"{_A76} asimdfhm dit uscat ilrcpc flagm sb", "armv8.2-dotprod", id="M1"),
        pytest.param("aarch64", _A76, "armv8.2-dotprod", id="Neoverse N1"),
        pytest.param("aarch64", _A72, "needs a CPU with asimddp, asimdhp, which this one lacks", id="Cortex-A72"),
    ],
)
def test_each_cpu_gets_the_variant_that_is_made_for_it_or_is_told_what_it_lacks(
    home: EngineHome, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, variant: str
) -> None:
    announce(tmp_path, monkeypatch, flags, told_as="flags" if machine == "x86_64" else "Features")
    variants = {each.name: (each.needs, GOOD) for each in CPUS[machine]}
    install(make_wheel(tmp_path, variants, machine=machine), site)
    found = home.register()["ik"]
    assert (found.variant or found.reason.removeprefix(f"{PACKAGE} ")) == variant


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (FAULT, "faults on this CPU (signal 4)"),
        (WRONG, "computes wrongly on this CPU (wrong: q4_K times 8)"),
        ("no program", "can't be run: Exec format error"),
        ("#!/bin/sh\nwhile :; do :; done\n", "takes more than 0.5 seconds for its probe"),
    ],
    ids=["fault", "wrong", "no program", "endless"],
)
def test_a_variant_that_is_announced_and_does_not_work_is_skipped_and_told(
    home: EngineHome, site: Path, monkeypatch: pytest.MonkeyPatch, script: str, fault: str
) -> None:
    monkeypatch.setattr(packaged, "PROBE_DEADLINE", 0.5)
    deliver(site, v4=(V4, script), v3=(V3, GOOD))
    found = home.register()
    assert found["ik"].variant == "v3"
    assert list(sentences(found)) == [f"{PACKAGE}: v4 {fault}; v3 is used"]


def test_a_cpu_without_what_the_least_variant_needs_is_told_before_anything_runs(
    home: EngineHome, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(tmp_path, monkeypatch, "sse2 fma")
    deliver(site, v4=(V4, f"#!/bin/sh\ntouch {tmp_path}/ran\n"), v3=(V3, f"#!/bin/sh\ntouch {tmp_path}/ran\n"))
    found = home.register()
    assert list(sentences(found)) == [f"{PACKAGE} needs a CPU with avx2, which this one lacks"]
    assert home.engines() == [WHEEL]
    assert not (tmp_path / "ran").exists()
    with pytest.raises(NotFound, match=r"^the engine ik can't run here: .* needs a CPU with avx2"):
        home.find("ik")


def test_a_package_that_speaks_otherwise_than_this_serow_is_refused(home: EngineHome, site: Path) -> None:
    deliver(site, speaks=SPEAKS + 1, v3=(V3, GOOD))
    assert list(sentences(home.register())) == [
        f"{PACKAGE} is made for another version of Serow; install the serow-engine-ik of this release"
    ]
    assert home.engines() == [WHEEL]


def test_when_every_variant_faults_there_is_no_engine_and_each_is_told(home: EngineHome, site: Path) -> None:
    deliver(site, v4=(V4, FAULT), v3=(V3, FAULT))
    [sentence] = sentences(home.register())
    assert sentence == f"{PACKAGE} does not run here: v4 faults on this CPU (signal 4); v3 faults on this CPU (signal 4)"
    assert home.engines() == [WHEEL]


@pytest.mark.parametrize("text", [None, "{", '{"speaks": 1}', '{"speaks": "1", "source": "", "built_at": "", "variants": []}'])
def test_a_package_whose_manifest_can_not_be_read_is_told(home: EngineHome, site: Path, text: str | None) -> None:
    deliver(site, v3=(V3, GOOD))
    manifest = site / "serow_engine_ik" / "engine.json"
    manifest.unlink() if text is None else manifest.write_text(text)
    assert home.register()["ik"].reason == f"{PACKAGE} can't be read"


def test_a_file_that_is_not_the_one_that_was_packed_is_not_run(home: EngineHome, site: Path, tmp_path: Path) -> None:
    deliver(site, v3=(V3, GOOD))
    (site / "serow_engine_ik" / "v3" / "llama-server").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    assert home.register()["ik"].reason.endswith("v3 is not the file that was packed")
    assert not (tmp_path / "ran").exists()


def test_what_was_found_is_read_by_others_and_not_tried_again(home: EngineHome, site: Path, tmp_path: Path) -> None:
    deliver(site, v3=(V3, f"#!/bin/sh\necho >> {tmp_path}/tried\n"))
    first = home.register()
    assert EngineHome(home.root).register() == first
    assert (tmp_path / "tried").read_text() == "\n"
    assert EngineHome(home.root).find("ik").executable


def test_an_executable_that_has_changed_since_it_was_tried_is_no_engine(home: EngineHome, site: Path) -> None:
    deliver(site, v3=(V3, GOOD))
    home.register()
    os.utime(site / "serow_engine_ik" / "v3" / "llama-server", ns=(1, 1))
    assert home.engines() == [WHEEL]
    home.register()
    assert [engine.name for engine in home.engines()] == ["wheel", "ik"]


def test_on_another_cpu_it_is_tried_anew(home: EngineHome, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver(site, v4=(V4, GOOD), v3=(V3, GOOD))
    assert home.register()["ik"].variant == "v4"
    announce(tmp_path, monkeypatch, "avx2 fma")
    assert home.engines() == [WHEEL]
    assert home.register()["ik"].variant == "v3"


def test_a_package_that_is_gone_is_forgotten(home: EngineHome, site: Path) -> None:
    deliver(site, v3=(V3, GOOD))
    home.register()
    for path in (site / "serow_engine_ik" / "v3" / "llama-server", *site.glob("*.dist-info/entry_points.txt")):
        path.unlink()
    packaged._entries.cache_clear()
    assert home.engines() == [WHEEL]
    assert home.register() == {}


def test_an_engine_that_was_built_here_comes_before_the_package(home: EngineHome, site: Path) -> None:
    deliver(site, v3=(V3, GOOD))
    home.register()
    (home.root / "made").write_text("built")
    home.install("ik", home.root / "made", Build(sha256="ab" * 32, source="", built_at=""))
    assert home.find("ik").build == "ab" * 6


def test_a_package_is_removed_by_pip_alone(home: EngineHome, site: Path) -> None:
    deliver(site, v3=(V3, GOOD))
    home.register()
    with pytest.raises(RequestError, match=r"^the engine ik came as a package$") as caught:
        home.remove("ik")
    assert caught.value.hint == "pip uninstall serow-engine-ik"


def test_without_a_package_nothing_is_written(home: EngineHome) -> None:
    assert home.register() == {}
    assert not home.root.exists()


def test_the_wheel_is_one_that_pip_installs_and_its_entry_point_is_found(tmp_path: Path, site: Path) -> None:
    pytest.importorskip("pip", reason="needs pip")
    wheel = make_wheel(tmp_path, {"v3": (V3, GOOD)})
    argv = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(argv, check=True, capture_output=True, timeout=100)
    assert [dist.version for dist in distributions(path=[str(site)])] == [__version__]
    assert os.access(site / "serow_engine_ik" / "v3" / "llama-server", os.X_OK)
    assert EngineHome(tmp_path / "engines").register()["ik"].variant == "v3"
