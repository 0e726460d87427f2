"""The one line that says that another engine would be faster here."""

from collections.abc import Callable
from pathlib import Path

import pytest

from serow.cli.advice import advise
from serow.engines.home import Build, EngineHome
from tests.engines.check.test_check import make_executable

SKYLAKE = "flags\t\t: fpu avx avx2 fma avx512f avx512bw avx512vl"
PENTIUM = "flags\t\t: fpu sse2"
NOTE = "note: the engine ik is about 1.7 times as fast here: serow engine build ik\n"
Told = Callable[[], str]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """What advise says at a terminal, with a home, engines and a CPU of the test's own."""
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{SKYLAKE}\n")
    monkeypatch.setattr("serow.system.cpu._CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("serow.engines.packaged.names", frozenset)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("serow.cli.advice.is_terminal", lambda *, err=False: True)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("SEROW_ENGINES", str(tmp_path / "engines"))
    monkeypatch.delenv("SEROW_ENGINE", raising=False)

    def tell() -> str:
        advise()
        return capsys.readouterr().err

    return tell


def test_it_is_told_once(told: Told) -> None:
    assert [told(), told()] == [NOTE, ""]


@pytest.mark.parametrize("is_err", [False, True])
def test_nobody_is_told_in_a_pipe(told: Told, monkeypatch: pytest.MonkeyPatch, is_err: bool) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("serow.cli.advice.is_terminal", lambda *, err=False: err is is_err)
        assert told() == ""
    assert told() == NOTE


def test_a_cpu_of_another_kind_has_another_ratio(told: Told, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags\t\t: avx2 bmi2 f16c fma")
    assert "about 1.8 times" in told()


def test_nobody_is_told_whose_cpu_was_not_measured(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(PENTIUM)
    assert told() == ""
    monkeypatch.setattr("serow.system.cpu._CPUINFO", tmp_path / "none")
    assert told() == ""


def test_nobody_is_told_who_has_another_engine_or_has_chosen_one(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("SEROW_ENGINE", "wheel")
        assert told() == ""
    with monkeypatch.context() as patched:
        patched.setattr("serow.engines.packaged.names", lambda: frozenset({"ik"}))
        assert told() == ""
    home = EngineHome(tmp_path / "engines")
    home.install("ik", make_executable(tmp_path), Build(sha256="ab" * 32, source="", built_at=""))
    assert told() == ""


def test_nothing_is_said_where_it_can_not_be_kept(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert told() == ""
