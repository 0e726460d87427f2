"""The results of checks: how they are kept, and what they hold for."""

import errno
import logging
import multiprocessing
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serow.engines.check.checks import Check, Checks, Speeds, model_key
from serow.engines.kinds import IK, Engine, FlagSet
from serow.errors import StoreError
from serow.system.lock import FileLock
from tests.scheduler.machine import model

DEADLINE = 30.0  # seconds
A = model("a")
ENGINE = Engine(IK, "build 1")
WHEEL_SPEEDS = Speeds(prompt=100, decode=10, repeat=10, together=20)
FLASH = FlagSet(True)


def result(flags: FlagSet = FLASH, *, speedup: float = 2.0, **fields: Any) -> Check:
    """One that has passed, of ENGINE with the model `a`, so many times as fast as the wheel."""
    speeds = Speeds(prompt=100 * speedup, decode=10 * speedup, repeat=10 * speedup, together=20 * speedup)
    known: dict[str, Any] = {"engine": "ik", "build": "build 1", "model": model_key(A), "flags": flags}
    return Check(**known | {"speeds": speeds, "wheel": WHEEL_SPEEDS} | fields)


def test_what_was_put_is_read_by_another(tmp_path: Path) -> None:
    check = result(checked_at="2026-01-02T03:04:05+00:00")
    Checks(tmp_path / "engines").put([check])
    assert Checks(tmp_path / "engines").all() == (check,)


def test_a_reader_sees_what_another_one_puts_meanwhile(tmp_path: Path) -> None:
    reader, writer = Checks(tmp_path), Checks(tmp_path)
    assert reader.all() == ()
    for number in range(20):  # quicker than the clock of a file system ticks
        writer.put([result(checked_at=str(number))])
        assert [check.checked_at for check in reader.all()] == [str(number)]
    (tmp_path / "checks.json").unlink()
    assert reader.all() == ()


@pytest.mark.parametrize("fields", [{"reason": "it died"}, {"build": "build 2"}, {"wheel_build": "older"}])
def test_a_new_result_takes_the_place_of_the_old_one(tmp_path: Path, fields: dict[str, Any]) -> None:
    checks = Checks(tmp_path)
    checks.put([result()])
    checks.put([result(**fields)])
    assert checks.all() == (result(**fields),)


@pytest.mark.parametrize(
    "fields", [{"engine": "llama.cpp"}, {"model": "b"}, {"flags": IK.flag_sets[-1]}, {"wheel_flags": FLASH}]
)
def test_results_of_something_else_stay(tmp_path: Path, fields: dict[str, Any]) -> None:
    checks = Checks(tmp_path)
    checks.put([result()])
    checks.put([result(**fields)])
    assert checks.all() == (result(), result(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"engine": "llama.cpp"},
        {"build": "build 2"},
        {"model": "b"},
        {"wheel_build": "older than what is here"},
        {"wheel_flags": FlagSet(True, cache_type="q8_0")},
    ],
)
def test_a_result_holds_for_one_build_one_model_and_the_wheel_that_is_here(tmp_path: Path, fields: dict[str, Any]) -> None:
    checks = Checks(tmp_path)
    checks.put([result()])
    assert checks.about(ENGINE, A) == [result()]
    checks.put([result(**fields)])
    assert result(**fields) not in checks.about(ENGINE, A)


def test_a_model_with_other_files_over_the_same_weights_is_another_one() -> None:
    keys = [model_key(each) for each in (A, replace(A, projector=Path("eyes")), replace(A, adapters=(Path("lora"),)))]
    assert keys == ["a", "a+eyes", "a+lora"]


@pytest.mark.parametrize(
    ("check", "speedup"),
    [(result(), 2.0), (result(reason="it died"), 0.0), (result(wheel=None), 0.0), (result(speeds=None), 0.0)],
)
def test_only_what_was_measured_and_did_not_fail_has_passed(check: Check, speedup: float) -> None:
    assert check.speedup == pytest.approx(speedup)
    assert check.passed is (speedup > 0)


def test_speeds_are_compared_by_all_four_alike() -> None:
    assert Speeds(prompt=1600, decode=10, repeat=10, together=20).over(WHEEL_SPEEDS) == pytest.approx(2.0)


@pytest.mark.parametrize("content", [b"", b"[", b"5", b"\xff", b"[" + b" " * (16 << 20) + b"]"])
def test_a_file_that_can_not_be_read_holds_nothing_says_so_once_and_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / "checks.json").write_bytes(content)
    checks = Checks(tmp_path)
    assert checks.all() == checks.all() == ()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    checks.put([result()])
    assert Checks(tmp_path).all() == (result(),)


def test_a_result_of_another_version_is_carried_along_and_costs_no_other(tmp_path: Path) -> None:
    path, other = tmp_path / "checks.json", {"engine": "ik", "speeds": {"prompt": 1.0}, "new": True}
    path.write_bytes(msgspec.json.encode([other, result(), result(model="b")]))
    checks = Checks(tmp_path)
    assert checks.all() == (result(), result(model="b"))
    checks.put([result(reason="it died")])
    assert Checks(tmp_path).all() == (result(model="b"), result(reason="it died"))
    kept = msgspec.json.decode(path.read_bytes())
    assert (kept["version"], kept["checks"][0]) == (2, other)


def test_a_field_that_a_later_version_adds_drops_no_result(tmp_path: Path) -> None:
    known = msgspec.to_builtins(result())
    (tmp_path / "checks.json").write_bytes(msgspec.json.encode({"version": 3, "checks": [known | {"later": [1]}]}))
    assert Checks(tmp_path).all() == (result(),)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_the_file_and_its_directory_are_for_their_owner_alone(tmp_path: Path) -> None:
    Checks(tmp_path / "engines").put([result()])
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "engines", tmp_path / "engines" / "checks.json")]
    assert modes == [0o700, 0o600]


def test_a_full_disk_is_told_and_leaves_the_results_that_were_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = Checks(tmp_path)
    checks.put([result()])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        with pytest.raises(StoreError, match=r"^no space left on the disk of the engines$"):
            checks.put([result(reason="it died")])
    assert Checks(tmp_path).all() == (result(),)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".serow", "checks.json", "checks.lock"]


def test_a_lock_that_is_not_given_back_is_an_error(tmp_path: Path) -> None:
    with FileLock(tmp_path / "checks.lock") as lock:
        assert lock.acquire()
        with pytest.raises(StoreError, match=r"^another process keeps the results of engine checks locked$"):
            Checks(tmp_path).put([result()])
    Checks(tmp_path).put([result()])


def put_many(root: Path, name: str) -> None:
    for number in range(20):
        Checks(root).put([result(model=f"{name} {number}")])


def test_of_what_several_processes_put_at_once_nothing_is_lost(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=put_many, args=(tmp_path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(DEADLINE)
        assert writer.exitcode == 0
    assert len(Checks(tmp_path).all()) == 60
