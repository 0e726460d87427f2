"""`serow engine`: what is listed, built, chosen and removed."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from serow.cli.main import main
from serow.engines import packaged, upkeep
from serow.engines.build import sources, zig
from serow.engines.build.tools import CMAKE, NINJA
from serow.engines.home import Build, EngineHome
from serow.system import limits
from tests.engines import package
from tests.engines.fake import FILENAME, GATE, PROGRAM, Fake, make_sdist

from .terminal import Terminal
from .test_key import Run

AUTOMATIC = "in use: for each model the fastest that was checked with it"
DEADLINE = 100.0  # seconds

needs_compiler = pytest.mark.skipif(
    not (shutil.which("c++") and CMAKE.installed() and NINJA.installed()), reason="needs a C++ compiler, cmake and ninja"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineHome:
    """A directory for engines; nothing forces one."""
    for name in ("SEROW_ENGINE", "SEROW_LLAMA_SERVER", "OLLAMA_ENGINE", "OLLAMA_LLAMA_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SEROW_ENGINES", str(tmp_path / "engines"))
    return EngineHome(tmp_path / "engines")


@pytest.fixture
def run(home: EngineHome, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: exit status, stdout, stderr."""

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(("engine", *args))
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capsys.readouterr()

    return run


def install(home: EngineHome, name: str = "ik", built_at: str = "2026-01-02T03:04:05+00:00") -> None:
    home.claim()
    (home.root / "made").touch()
    home.install(name, home.root / "made", Build(sha256="ab" * 32, source="ik-1.tar.gz", built_at=built_at, backends=("cuda",)))


def test_without_built_engines_the_list_says_how_to_build_them(run: Run) -> None:
    code, out, err = run("list")
    header, wheel, llama_cpp, ik, _, used = out.splitlines()
    assert (code, err, header.split()) == (0, "", ["NAME", "BUILD", "SOURCE", "BACKENDS", "BUILT"])
    assert wheel.split() == ["wheel", version("xllamacpp"), "xllamacpp"]
    assert llama_cpp.endswith("not built        serow engine build llama.cpp")
    assert ik.endswith("not built        serow engine build ik")
    assert used == AUTOMATIC


def test_a_built_engine_is_listed_with_what_it_is(run: Run, home: EngineHome) -> None:
    install(home)
    row = run("list")[1].splitlines()[3]
    assert row.startswith("ik           abababababab     ik-1.tar.gz")
    assert "cpu, cuda" in row
    assert row.endswith(" ago")


@pytest.mark.parametrize("moment", ["2026-01-02T03:04:05", "long ago"])
def test_a_record_that_somebody_has_edited_is_no_traceback(run: Run, home: EngineHome, moment: str) -> None:
    install(home, built_at=moment)
    code, out, _ = run("list")
    assert (code, out.splitlines()[3].endswith(" ago")) == (0, True)


def test_the_choice_is_made_shown_and_taken_back(run: Run, home: EngineHome) -> None:
    install(home)
    used = "in use: ik, for the models that it was checked with\n"
    assert run("use", "ik") == (0, used, "")
    assert run("list")[1].endswith(used)
    assert run("use", "auto") == (0, f"{AUTOMATIC}\n", "")
    assert home.used == ""


def test_what_the_settings_force_is_shown(run: Run, home: EngineHome, monkeypatch: pytest.MonkeyPatch) -> None:
    install(home)
    monkeypatch.setenv("SEROW_ENGINE", "ik")
    assert run("list")[1].endswith("in use: ik, as SEROW_ENGINE says\n")
    assert run("use", "auto")[1] == "in use: ik, as SEROW_ENGINE says\n"
    monkeypatch.setenv("SEROW_LLAMA_SERVER", sys.executable)
    assert run("list")[1].endswith(f"in use: {sys.executable} as ik, as SEROW_LLAMA_SERVER says\n")


def test_a_removed_engine_is_gone(run: Run, home: EngineHome) -> None:
    install(home)
    assert run("rm", "ik") == (0, "removed 'ik'\n", "")
    assert home.build_of("ik") is None


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (("use", "ik"), "the engine ik is not built", "build it: serow engine build ik"),
        (("use", "nope"), "there is no engine 'nope'", "engines: wheel, llama.cpp, ik"),
        (("rm", "ik"), "the engine ik is not built", "see what is there: serow engine list"),
        (("rm", "wheel"), "the wheel can't be removed: Serow can't do without it", "choose another: serow engine use NAME"),
        (("build", "wheel"), "the wheel is not built: it is installed with Serow", "engines: llama.cpp, ik"),
        (("build", "nope"), "there is no engine 'nope'", "engines: wheel, llama.cpp, ik"),
    ],
)
def test_a_mistake_is_one_line_with_a_hint_and_writes_nothing(
    run: Run, home: EngineHome, args: tuple[str, ...], error: str, hint: str
) -> None:
    assert run(*args) == (1, "", f"error: {error}\nhint: {hint}\n")
    assert not home.root.exists()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Fake:
    """The sdist that ik is built from, in the one place that pip knows."""
    made = make_sdist(tmp_path / "index", getattr(request, "param", PROGRAM))
    monkeypatch.setitem(sources.RECIPES, "ik", made.recipe)
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.path.parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return made


@needs_compiler
def test_building_says_what_is_built_and_with_what_and_ends_with_the_next_step(run: Run, home: EngineHome, fake: Fake) -> None:
    code, out, err = run("build", "ik", "--cpu")
    assert (code, out) == (0, f"built ik {home.find('ik').build}\n")
    lines = err.splitlines()
    assert lines[0] == f"building ik from {FILENAME}"
    assert [line.split()[0] for line in lines[1:5]] == ["compiler", "tools", "for", "GPU"]
    assert lines[4].endswith("none: --cpu")
    assert lines[5:-1] == [
        f"fetching {FILENAME}",
        f"unpacking {FILENAME}",
        "configuring",
        "compiling",
        "trying it",
        "installing",
    ]
    assert lines[-1] == "hint: serow engine check ik MODEL lets models use it"


@needs_compiler
def test_without_a_compiler_nothing_is_fetched(
    run: Run, home: EngineHome, fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(zig, "is_here", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    code, out, err = run("build", "ik")
    assert (code, out) == (1, "")
    assert err.startswith("error: no C++ compiler is here\nhint: install one: ")
    assert not home.root.exists()


@needs_compiler
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal and named pipes")
@pytest.mark.parametrize("fake", [GATE], indirect=True)
def test_ctrl_c_ends_a_build_with_its_compilers_and_says_that_it_goes_on(
    home: EngineHome, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("reached", "word"):
        os.mkfifo(tmp_path / name)
    monkeypatch.setenv("GATE", str(tmp_path))
    argv = [sys.executable, "-m", "tests.engines.fake", str(fake.path), "engine", "build", "ik", "--cpu"]
    with Terminal(argv, DEADLINE) as terminal:
        terminal.expect("compiling")
        terminal.expect("2/6")
        assert (tmp_path / "reached").read_text() == "reached\n"
        builders = [process for process in psutil.process_iter() if str(home.root) in " ".join(_argv(process))]
        assert "ninja" in {process.name() for process in builders}
        terminal.send("\x03")
        terminal.expect("hint: serow engine build ik goes on where this one ended")
        assert terminal.wait() == 130
    assert psutil.wait_procs(builders, DEADLINE)[1] == []
    (tmp_path / "open").touch()
    subprocess.run(argv, check=True, capture_output=True, timeout=DEADLINE)
    assert "first.cpp" not in (home.workplace("ik") / "build.log").read_text()


def _argv(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@pytest.mark.skipif(sys.platform != "linux", reason="the package is for Linux")
def test_an_engine_that_came_as_a_package_is_listed_with_its_variant_and_what_does_not_run(
    run: Run, home: EngineHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    packaged._entries.cache_clear()
    variants = {"v9": ((), "#!/bin/sh\nkill -4 $$\n"), "v3": ((), package.GOOD)}
    package.install(package.make_wheel(tmp_path, variants), tmp_path / "site")
    code, out, err = run("list")
    packaged._entries.cache_clear()
    row = out.splitlines()[3]
    found = home.packaged_of("ik")
    assert found and (code, row.split()[:2]) == (0, ["ik", found.sha256[:12]])
    assert f"{found.package}, v3" in row
    assert err == f"note: {found.package}: v9 faults on this CPU (signal 4); v3 is used\n"


def test_a_build_in_the_background_returns_at_once_and_is_wished_for_until_it_has_ended(
    run: Run, home: EngineHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "build_command", lambda name: [sys.executable, "-c", "print('it builds')"])
    code, out, err = run("build", "ik", "--background")
    assert (code, out) == (0, "building ik in the background, where nothing else wants the cores\n")
    assert err == f"hint: see how it goes: serow engine list, and {home.said_by('ik')}\n"
    assert home.wishes() == ["ik"]


def test_while_an_engine_is_built_the_list_says_so_and_no_second_build_begins(run: Run, home: EngineHome) -> None:
    with home.lock("ik"):
        assert run("list")[1].splitlines()[3].split()[:3] == ["ik", "being", "built"]
        assert run("build", "ik", "--background")[2] == "error: the engine ik is being built\nhint: see: serow engine list\n"
    assert home.wishes() == []


@needs_compiler
@pytest.mark.parametrize(("fake", "status"), [('message(FATAL_ERROR "no")\n', 1), (PROGRAM, 0)], indirect=["fake"])
def test_a_build_that_comes_last_takes_the_wish_away_when_it_has_come_to_an_end(
    run: Run, home: EngineHome, fake: Fake, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "come_last", lambda: None)
    home.wish("ik")
    assert run("build", "ik", "--cpu", "--lowest")[0] == status
    assert home.wishes() == []
