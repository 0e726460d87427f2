"""The directory of the engines: what is read there, installed, chosen and removed."""

import errno
import stat
import sys
from pathlib import Path

import pytest

from serow.engines.home import EXECUTABLE, Build, EngineHome, disk_errors, forced
from serow.engines.kinds import IK, LLAMA_CPP, WHEEL, Engine
from serow.errors import NotFound, RequestError, StoreError
from serow.settings import Settings

BUILD = Build(sha256="ab" * 32, source="ik.tar.gz", built_at="2026-01-02T03:04:05+00:00")


@pytest.fixture
def home(tmp_path: Path) -> EngineHome:
    """A directory that does not exist yet."""
    return EngineHome(tmp_path / "engines")


def install(home: EngineHome, name: str = "ik", text: str = "new", build: Build = BUILD) -> None:
    home.claim()
    executable = home.root / "made"
    executable.write_text(text)
    home.install(name, executable, build)


def test_reading_a_directory_that_is_not_there_finds_the_wheel_and_creates_nothing(home: EngineHome) -> None:
    assert home.engines() == [WHEEL]
    assert (home.used, home.build_of("ik")) == ("", None)
    assert not home.root.exists()


def test_an_installed_engine_is_found_with_its_build(home: EngineHome) -> None:
    install(home)
    engine = home.find("ik")
    assert (engine.name, engine.build, engine.has_gpu) == ("ik", "ab" * 6, False)
    assert engine.executable == home.root / "ik" / EXECUTABLE
    assert engine.executable.read_text() == "new"
    assert home.build_of("ik") == BUILD


def test_a_new_build_takes_the_place_of_the_old_one_and_nothing_else_stays(home: EngineHome) -> None:
    install(home, text="old")
    install(home, text="new", build=Build(sha256="cd" * 32, source="ik.tar.gz", built_at="", backends=("cuda",)))
    engine = home.find("ik")
    assert (engine.build, engine.has_gpu) == ("cd" * 6, True)
    assert engine.executable and engine.executable.read_text() == "new"
    assert sorted(path.name for path in home.root.iterdir()) == [".serow", "ik"]


def test_an_installation_that_fails_leaves_the_old_engine(home: EngineHome, monkeypatch: pytest.MonkeyPatch) -> None:
    install(home, text="old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("serow.store.blobs.write_atomic", full)
        with pytest.raises(StoreError, match=r"^no space left on the disk of the engines$"):
            install(home, text="new")
    engine = home.find("ik")
    assert engine.executable and engine.executable.read_text() == "old"
    assert sorted(path.name for path in home.root.iterdir()) == [".serow", "ik"]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_what_is_written_is_for_its_owner_alone(home: EngineHome) -> None:
    install(home)
    home.use("ik")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home.root / "ik", home.root / "ik" / "engine.json")}
    assert modes == {"ik": 0o700, "engine.json": 0o600}
    assert stat.S_IMODE((home.root / "used").stat().st_mode) == 0o600


def test_a_chosen_engine_is_used_until_the_choice_is_taken_back(home: EngineHome) -> None:
    install(home)
    for name in ("ik", "wheel", ""):
        home.use(name)
        assert home.used == name
    home.use("")
    assert sorted(path.name for path in home.root.iterdir()) == [".serow", "ik"]


@pytest.mark.parametrize(("name", "message"), [("ik", "the engine ik is not built"), ("nope", "there is no engine 'nope'")])
def test_an_engine_that_is_not_here_can_neither_be_chosen_nor_removed(home: EngineHome, name: str, message: str) -> None:
    for act in (home.use, home.remove):
        with pytest.raises(NotFound, match=f"^{message}$") as caught:
            act(name)
        assert caught.value.hint
    assert not home.root.exists()


def test_removing_an_engine_takes_its_build_tree_and_its_choice_along(home: EngineHome) -> None:
    install(home)
    home.use("ik")
    (home.workplace("ik") / "0123456789ab" / "objects").mkdir(parents=True)
    home.remove("ik")
    assert (home.engines(), home.used) == ([WHEEL], "")
    assert not home.workplace("ik").exists()


def test_what_is_left_of_a_build_can_be_removed_without_an_engine(home: EngineHome) -> None:
    home.workplace("ik").mkdir(parents=True)
    home.remove("ik")
    assert not home.workplace("ik").exists()


def test_removing_an_engine_leaves_the_choice_of_another(home: EngineHome) -> None:
    install(home)
    install(home, "llama.cpp")
    home.use("llama.cpp")
    home.remove("ik")
    assert home.used == "llama.cpp"


def test_the_wheel_can_not_be_removed(home: EngineHome) -> None:
    with pytest.raises(RequestError, match=r"^the wheel can't be removed"):
        home.remove("wheel")


def test_an_engine_that_is_being_built_is_not_removed_meanwhile(home: EngineHome) -> None:
    install(home)
    with home.lock("ik"), pytest.raises(RequestError, match=r"^the engine ik is being built$"):
        home.remove("ik")
    assert home.find("ik")
    home.remove("ik")


def test_the_lock_of_one_engine_does_not_keep_others_out(home: EngineHome) -> None:
    with home.lock("ik"), home.lock("llama.cpp"):
        assert sorted(path.name for path in (home.root / "build").iterdir()) == ["ik.lock", "llama.cpp.lock"]


@pytest.mark.parametrize("text", ["", "{}", '{"sha256": 1}', "\x00" * 100])
def test_an_engine_whose_record_can_not_be_read_is_not_there(home: EngineHome, text: str) -> None:
    install(home)
    (home.root / "ik" / "engine.json").write_text(text)
    assert home.engines() == [WHEEL]
    home.remove("ik")


@pytest.mark.parametrize("text", ["nope", "../ik", "\xff"])
def test_a_choice_that_is_no_engine_counts_as_none(home: EngineHome, text: str) -> None:
    home.root.mkdir()
    (home.root / "used").write_text(text, encoding="latin-1")
    assert home.used == ""


def test_the_settings_force_an_engine_that_is_here(home: EngineHome) -> None:
    install(home)
    assert forced(Settings(engines=home.root)) is None
    assert forced(Settings(engines=home.root, engine="ik")) == home.find("ik")
    with pytest.raises(NotFound, match=r"^the engine llama\.cpp is not built$"):
        forced(Settings(engines=home.root, engine="llama.cpp"))


def test_an_executable_of_one_s_own_is_of_the_kind_that_is_said(home: EngineHome) -> None:
    program = Path(sys.executable)
    assert forced(Settings(llama_server=program)) == Engine(LLAMA_CPP, executable=program)
    assert forced(Settings(llama_server=program, engine="ik")) == Engine(IK, executable=program)
    with pytest.raises(RequestError, match=r"^SEROW_ENGINE=wheel and SEROW_LLAMA_SERVER contradict each other$"):
        forced(Settings(llama_server=program, engine="wheel"))


@pytest.mark.parametrize("path", [Path("/no/such/program"), Path(__file__), Path(__file__).parent])
def test_what_is_no_program_is_refused_before_anything_runs(path: Path) -> None:
    with pytest.raises(RequestError, match=r"^SEROW_LLAMA_SERVER=.* is no program$"):
        forced(Settings(llama_server=path))


def test_a_fault_of_the_disk_is_told_without_a_path() -> None:
    with pytest.raises(StoreError, match=r"^the directory of the engines failed: permission denied$"), disk_errors():
        raise PermissionError(errno.EACCES, "Permission denied", "/secret")
