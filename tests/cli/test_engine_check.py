"""`serow engine check`, with an engine that is the wheel behind a proxy."""

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from serow.cli import progress
from serow.cli.main import main
from serow.engines.check.check import Tell, Unfinished
from serow.engines.check.checks import Check, Checks, Speeds
from serow.engines.home import Build, EngineHome
from serow.engines.kinds import KINDS, LLAMA_CPP, Engine, FlagSet
from serow.settings import Settings
from serow.store.model import Model
from serow.store.store import Store
from serow.system.load import OtherLoad
from tests.conftest import create
from tests.engines.check.test_check import make_executable

DEADLINE = 60.0  # seconds
FLAG_SETS = tuple(flags for flags in LLAMA_CPP.flag_sets if flags.cache_type == "f16")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the fake engine as llama.cpp."""
    home = EngineHome(tmp_path / "engines")
    home.claim()
    home.install("llama.cpp", make_executable(tmp_path), Build(sha256="ab" * 32, source="", built_at=""))
    monkeypatch.setenv("SEROW_ENGINES", str(home.root))
    monkeypatch.setenv("SEROW_NUM_THREAD", "1")
    monkeypatch.setitem(KINDS, "llama.cpp", replace(LLAMA_CPP, flag_sets=FLAG_SETS))  # less to wait for
    return home.root


@pytest.fixture
def store(tmp_path: Path, zoo: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with zoo-think under two names, and a model that sees."""
    store = Store(tmp_path / "models")
    create(store, "zoo-think", zoo / "zoo-think.gguf")
    create(store, "other", zoo / "zoo-think.gguf")
    create(store, "zoo-vision", zoo / "zoo-vision.gguf", zoo / "zoo-vision-mmproj.gguf")
    monkeypatch.setenv("SEROW_MODELS", str(store.root))
    return store


@pytest.fixture
def run(engines: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `serow engine check …`: exit status, stdout, stderr."""

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["engine", "check", *args])
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capsys.readouterr()

    return run


def test_what_passed_is_a_table_of_multiples_and_is_kept(run: Run, engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OtherLoad, "share", 0.0)
    EngineHome(engines).use("llama.cpp")  # as a server would, were it not for the proxy
    code, out, err = run("llama.cpp", "zoo-think")
    head, *rows, outcome = out.splitlines()
    assert head.split() == ["FLAGS", "RESULT", "PROMPT", "DECODE", "REPEATS", "8", "STREAMS"]
    assert [row.split("  ")[0] for row in rows] == ["8 slots, drafts", "8 slots"]
    kept = Checks(engines).all()
    assert [check.flags for check in kept] == [each for each in FLAG_SETS if not each.is_last_resort]
    for row, check in zip(rows, kept, strict=True):
        assert check.speeds and check.wheel
        decode = f"{check.speeds.decode / check.wheel.decode:.2f}"
        assert row.split()[-5] == "passed" and row.split()[-3] == decode
    best = max(kept, key=lambda check: check.speedup)
    words = next(row.split("  ")[0] for row, check in zip(rows, kept, strict=True) if check is best)
    assert (code, outcome) == (0, f"zoo-think:latest runs on llama.cpp, {words}: used from the next load on")
    assert err.splitlines() == [
        "zoo-think:latest: the wheel",
        "zoo-think:latest: 8 slots, drafts",
        "zoo-think:latest: 8 slots",
    ]


def test_what_failed_is_told_with_its_reason_and_the_status(run: Run, engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_FAKE_FAULT", "rope")
    code, out, _ = run("llama.cpp", "zoo-think")
    assert code == 1
    _, *rows, first, second, third, outcome = out.splitlines()
    assert [row.split("  ")[0] for row in rows] == ["8 slots, drafts", "8 slots", "8 slots, no flash attention"]
    assert all(row.endswith("failed") for row in rows)
    assert first.startswith("8 slots, drafts failed: texts: the log-probabilities of token")
    assert second.startswith("8 slots failed: ") and third.startswith("8 slots, no flash attention failed: ")
    assert outcome == "zoo-think:latest runs on the wheel"
    assert [check.passed for check in Checks(engines).all()] == [False, False, False]


def test_without_a_name_all_language_models_are_checked_each_file_once(
    run: Run, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_FAKE_FAULT", "rope")
    code, out, _ = run("llama.cpp")
    assert (code, out.count("RESULT")) == (1, 1)
    assert len({check.model for check in Checks(engines).all()}) == 1


def test_a_model_that_the_wheel_can_not_load_does_not_end_the_check_of_the_others(
    run: Run, store: Store, zoo: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "strange.gguf"
    weights.write_bytes((zoo / "zoo-think.gguf").read_bytes().replace(b"qwen3", b"qwen9"))
    create(store, "strange", weights)
    code, out, err = run("llama.cpp", "strange", "zoo-think")
    assert (code, out.count("RESULT"), out.count("passed")) == (1, 1, 2)
    reason = "could not load the model: the engine does not know the architecture qwen9"
    assert f"error: strange:latest can't be checked: {reason}" in err.splitlines()


def test_a_check_beside_other_work_and_without_the_time_for_all_says_so(
    run: Run, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def disturbed(engine: Engine, model: Model, _: Settings, tell: Tell, limit: float) -> AsyncGenerator[Check, None]:
        assert limit == 90
        speeds = Speeds(4, 3, 2, 1)
        yield Check.of(engine, FlagSet(), model, speeds=speeds, wheel=speeds, disturbance=0.25)
        raise Unfinished("")

    monkeypatch.setattr("serow.engines.check.check.check", disturbed)
    code, out, err = run("llama.cpp", "zoo-think", "--minutes", "1.5")
    assert (code, "passed" in out) == (0, True)
    assert err.splitlines() == [
        "warning: not every way to start it was tried within 1.5 minutes",
        "hint: what passed is kept; give it longer with --minutes, or a quieter machine",
        "warning: other processes took up to 25% of the CPU: the speeds are worth little",
        "hint: check again when there is less to do",
    ]
    assert [check.disturbance for check in Checks(engines).all()] == [0.25]


def test_steps_that_take_long_are_counted_where_there_is_no_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with progress.bar(is_bytes=False) as bar:
        for step in range(5):
            bar.update("8 slots", step, 11)
            now += 20.0
        bar.update("1 slot", 0, 11)
    assert capsys.readouterr().err.splitlines() == ["8 slots", "8 slots: 2 of 11", "8 slots: 4 of 11", "1 slot"]


def test_a_check_that_has_time_for_nothing_ends_as_an_error(run: Run, engines: Path) -> None:
    code, out, err = run("llama.cpp", "zoo-think", "--minutes", "0.0001")
    assert (code, out) == (1, "")
    assert "error: zoo-think:latest can't be checked: not everything was tried within 0.006 seconds" in err.splitlines()
    assert Checks(engines).all() == ()


MISTAKES = [
    (("wheel",), "the wheel is what other engines are measured by"),
    (("nimble",), "there is no engine 'nimble'"),
    (("ik",), "the engine ik is not built"),
    (("llama.cpp", "absent"), "model 'absent' not found"),
]


@pytest.mark.parametrize(("args", "error"), MISTAKES, ids=[args[-1] for args, _ in MISTAKES])
def test_a_mistake_is_one_line_with_a_hint(run: Run, engines: Path, args: tuple[str, ...], error: str) -> None:
    code, out, err = run(*args)
    assert (code, out, err.splitlines()[0]) == (1, "", f"error: {error}")
    assert err.splitlines()[1].startswith("hint: ")
    assert Checks(engines).all() == ()


def test_an_empty_store_has_nothing_to_check(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_MODELS", str(tmp_path / "none"))
    code, _, err = run("llama.cpp")
    assert (code, err.splitlines()[0]) == (1, "error: there are no language models to check")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_keeps_the_results_that_came_and_leaves_no_process(engines: Path, store: Store) -> None:
    argv = [sys.executable, "-m", "serow", "engine", "check", "llama.cpp", "zoo-think"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert [process.stderr.readline().strip() for _ in range(3)][-1] == "zoo-think:latest: 8 slots, drafts"
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE)
    assert (process.returncode, len(children) > 0) == (130, True)
    assert psutil.wait_procs(children, timeout=DEADLINE)[1] == []
    assert [(check.flags, check.passed) for check in Checks(engines).all()] == [(LLAMA_CPP.flag_sets[0], True)]
