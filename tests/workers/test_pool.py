"""Hostile work happens elsewhere, within limits, and harms nobody else."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from serow.errors import FormatError, LimitExceeded, Unavailable
from serow.workers import pool as pools
from serow.workers import share
from serow.workers.pool import Limits, Pool
from serow.workers.reply import WorkerFault
from serow.workers.worker import Worker
from tests.workers import jobs

DEADLINE = 10.0  # seconds; the machine may be busy
LIMITS = Limits(cpu=0.3, memory=128 << 20)
OTHERS: set[int] = set()


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[Pool]:
    async with Pool() as each, asyncio.timeout(60):
        yield each


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def others() -> Iterator[set[int]]:
    """Processes that other tests' servers have."""
    OTHERS.update(worker.pid for worker in workers_of())
    yield OTHERS
    OTHERS.clear()


def workers_of(pid: int | None = None) -> list[psutil.Process]:
    """Those of this test, or of another process."""
    return [child for child in psutil.Process(pid).children() if child.pid not in OTHERS and is_worker(child)]


def is_worker(process: psutil.Process) -> bool:
    try:
        return "serow.workers.child" in process.cmdline()
    except psutil.Error:
        return False


async def test_a_function_s_value_comes_back(pool: Pool) -> None:
    assert await pool.run(jobs.double, 4, limits=LIMITS) == 8
    assert await pool.run(jobs.reverse, b"abc" * 1_000_000, limits=LIMITS) == b"cba" * 1_000_000


async def test_nothing_is_started_before_it_is_needed_and_what_was_started_is_kept(pool: Pool) -> None:
    assert workers_of() == []
    first = await pool.run(jobs.process_id, limits=LIMITS)
    assert await pool.run(jobs.process_id, limits=LIMITS) == first
    assert [worker.pid for worker in workers_of()] == [first]


async def test_an_error_of_ours_comes_back_as_it_was_raised(pool: Pool) -> None:
    with pytest.raises(FormatError, match=r"^no good$") as caught:
        await pool.run(jobs.refuse, "no good", limits=LIMITS)
    assert caught.value.hint == "another way"


async def test_an_error_that_nobody_expected_is_a_fault_with_its_traceback(pool: Pool) -> None:
    with pytest.raises(WorkerFault, match="ZeroDivisionError"):
        await pool.run(jobs.fail, limits=LIMITS)


async def test_a_reply_of_another_type_is_not_believed(pool: Pool) -> None:
    with pytest.raises(WorkerFault):
        await pool.run(jobs.lie, limits=LIMITS)


EXCESSES: list[tuple[Callable[..., Any], tuple[Any, ...], str]] = [
    (jobs.spin, (), "took too much time"),
    (jobs.nap, (60.0,), "took too much time"),
    (jobs.fill, (), "needed too much memory"),
    (jobs.fall, (), "broke the process"),
    (jobs.descend, (0,), "is nested too deeply"),
]


@pytest.mark.parametrize(("function", "args", "reason"), EXCESSES, ids=[each[0].__name__ for each in EXCESSES])
async def test_what_exceeds_its_limits_ends_with_its_reason_and_the_next_call_works(
    pool: Pool, function: Callable[..., Any], args: tuple[Any, ...], reason: str
) -> None:
    start = time.monotonic()
    with pytest.raises(LimitExceeded) as caught:
        await pool.run(function, *args, limits=Limits(cpu=0.3, memory=128 << 20, wall=1.5))
    assert caught.value.reason.startswith(reason)
    assert time.monotonic() - start < DEADLINE
    assert await pool.run(jobs.double, 4, limits=LIMITS) == 8


async def test_the_event_loop_runs_on_while_workers_work(pool: Pool) -> None:
    working = [asyncio.create_task(pool.run(jobs.spin, limits=LIMITS)) for _ in range(3)]
    longest, last = 0.0, time.monotonic()
    while not all(task.done() for task in working):
        await asyncio.sleep(0.001)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert longest < 0.25
    assert all(isinstance(task.exception(), LimitExceeded) for task in working)


async def test_who_leaves_ends_the_work_within_a_second(pool: Pool) -> None:
    working = asyncio.create_task(pool.run(jobs.spin, limits=Limits(cpu=60, memory=128 << 20)))
    await until(workers_of)
    (worker,) = workers_of()
    await until(lambda: worker.cpu_times().user > 0.1)
    start = time.monotonic()
    working.cancel()
    await until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert time.monotonic() - start < 1
    with pytest.raises(asyncio.CancelledError):
        await working
    assert await pool.run(jobs.double, 4, limits=LIMITS) == 8


async def test_who_leaves_the_queue_is_forgotten(pool: Pool) -> None:
    tasks = [asyncio.create_task(pool.run(jobs.nap, 0.5, client="a", limits=LIMITS)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    start = time.monotonic()
    assert await pool.run(jobs.double, 4, client="a", limits=LIMITS) == 8
    assert time.monotonic() - start < DEADLINE / 2


async def test_a_client_with_much_to_do_keeps_nobody_else_waiting(pool: Pool) -> None:
    crowd = [asyncio.create_task(pool.run(jobs.nap, 0.3, client="crowd", limits=LIMITS)) for _ in range(30)]
    await asyncio.sleep(0)
    for _ in range(3):
        assert await pool.run(jobs.double, 4, client="other", limits=LIMITS) == 8
    assert sum(task.done() for task in crowd) < 15
    for task in crowd:
        task.cancel()
    await asyncio.wait(crowd)


async def test_calls_that_need_much_memory_leave_places_for_others(pool: Pool) -> None:
    heavy = Limits(cpu=60, memory=pools.HEAVY + 1)
    tasks = [asyncio.create_task(pool.run(jobs.nap, 5.0, client=f"{n}", limits=heavy)) for n in range(8)]
    await asyncio.sleep(0)
    assert await pool.run(jobs.double, 4, client="0", limits=LIMITS) == 8
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_client_s_queue_is_bounded(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "MOST_WAITING", 3)
    tasks = [asyncio.create_task(pool.run(jobs.nap, 0.5, client="a", limits=LIMITS)) for _ in range(10)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(each, Unavailable) for each in results) == 4  # three run, three wait
    assert await pool.run(jobs.double, 4, client="a", limits=LIMITS) == 8


async def test_nobody_waits_for_ever(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "LONGEST_WAIT", 0.2)
    tasks = [asyncio.create_task(pool.run(jobs.nap, 1.0, client="a", limits=LIMITS)) for _ in range(5)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(each, Unavailable) for each in results) == 2


async def test_a_client_that_had_much_done_lately_gets_what_others_leave(pool: Pool) -> None:
    first = await pool.run(jobs.nap, 0.0, client="much", limits=LIMITS)
    pool._shares.charge(("much", "nap"), share.CREDIT + 60)
    behind = await pool.run(jobs.nap, 0.3, client="much", limits=LIMITS)
    assert first != behind and psutil.Process(behind).nice() == 15
    assert await pool.run(jobs.nap, 0.0, client="much", limits=LIMITS) == behind
    assert await pool.run(jobs.nap, 0.0, client="little", limits=LIMITS) == first
    assert await pool.run(jobs.process_id, client="much", limits=LIMITS) == first
    assert psutil.Process(first).nice() == psutil.Process().nice()


async def test_work_that_takes_much_memory_has_a_credit_of_its_own(pool: Pool) -> None:
    heavy = replace(LIMITS, memory=pools.HEAVY + 1)
    pool._shares.charge(("much", "nap, heavy"), share.CREDIT + 60)
    behind = await pool.run(jobs.nap, 0.3, client="much", limits=heavy)
    light = await pool.run(jobs.nap, 0.0, client="much", limits=LIMITS)
    assert [psutil.Process(each).nice() for each in (behind, light)] == [15, psutil.Process().nice()]


async def test_while_others_are_answered_what_has_no_credit_waits_until_it_is_paid_for(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_shares", share.Shares(credit=0.1, rate=1.0))
    pool._shares.charge(("much", "nap"), 0.6)
    soon = replace(LIMITS, wait=5.0)
    with pool.giving_way("another"):
        start = time.monotonic()
        await pool.run(jobs.nap, 0.0, client="little", limits=soon)
        await pool.run(jobs.nap, 0.0, client="much", limits=soon)
        assert time.monotonic() - start > 0.4
    pool._shares.charge(("much", "nap"), 60.0)
    with pool.giving_way("much"):
        await pool.run(jobs.nap, 0.0, client="much", limits=soon)


async def test_while_others_are_answered_what_would_wait_in_vain_is_refused_at_once_and_told_when(pool: Pool) -> None:
    pool._shares.charge(("much", "nap"), share.CREDIT + 100 * share.RATE)
    soon = replace(LIMITS, wait=5.0)
    with pool.giving_way("another"):
        with pytest.raises(Unavailable, match="others are being answered") as caught:
            await pool.run(jobs.nap, 0.0, client="much", limits=soon)
        assert 90 <= caught.value.retry_after <= 100
        await pool.run(jobs.nap, 0.0, client="much", limits=LIMITS)  # it has time
    await pool.run(jobs.nap, 0.0, client="much", limits=soon)


async def test_what_is_done_in_our_own_process_is_paid_for_too(pool: Pool) -> None:
    soon = replace(LIMITS, wait=0.0)
    with ThreadPoolExecutor(1) as threads, pool.giving_way("another"):
        work = partial(pool.run_here, threads, jobs.work, share.CREDIT + 0.1, client="much", limits=soon)
        await work()
        with pytest.raises(Unavailable, match="others are being answered"):
            await work()
        assert pool._shares.credit(("much", "work")) < 0 < pool._shares.credit(("little", "work"))


async def test_who_waits_for_credit_runs_when_the_others_are_answered(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_LOOK_AGAIN", 60.0)
    pool._shares.charge(("much", "nap"), share.CREDIT + 4 * share.RATE)
    with pool.giving_way("another"):
        waiting = asyncio.create_task(pool.run(jobs.nap, 0.0, client="much", limits=replace(LIMITS, wait=10.0)))
        await until(lambda: pool._waiting)
    assert await asyncio.wait_for(waiting, DEADLINE)


async def test_more_of_the_same_is_done_one_after_the_other_and_soon_or_not_at_all(pool: Pool) -> None:
    pool._shares.charge(("much", "nap"), share.CREDIT + 60)
    await pool.run(jobs.nap, 0.0, client="much", limits=LIMITS)  # a process is there
    impatient = replace(LIMITS, wait=0.2)
    tasks = [asyncio.create_task(pool.run(jobs.nap, 1.0, client="much", limits=impatient)) for _ in range(3)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(each, Unavailable) for each in results) == 2
    tasks = [asyncio.create_task(pool.run(jobs.nap, 0.3, client="much", limits=LIMITS)) for _ in range(3)]
    assert len(set(await asyncio.gather(*tasks))) == 1, "who may wait is served"


async def test_a_slow_process_goes_when_it_has_nothing_to_do(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_shares", share.Shares(credit=0.0))
    monkeypatch.setattr(pools, "_KEPT", 0.2)
    slow = await pool.run(jobs.process_id, limits=LIMITS)
    await until(lambda: slow not in [worker.pid for worker in workers_of()])
    assert await pool.run(jobs.double, 4, limits=LIMITS) == 8


async def test_what_works_for_long_goes_behind_all_others_and_a_warm_one_follows(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_shares", share.Shares(credit=0.05))
    first = await pool.run(jobs.process_id, limits=LIMITS)
    assert await pool.run(jobs.work, 0.2, limits=LIMITS) == first
    assert psutil.Process(first).nice() == 15
    await until(lambda: len(workers_of()) == 2 and pool._replacing is None)
    second = await pool.run(jobs.process_id, client="another", limits=LIMITS)
    assert second != first and psutil.Process(second).nice() == psutil.Process().nice()


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="the system has no autogroups")
async def test_a_session_of_its_own_gives_a_slow_process_no_share_of_its_own(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_shares", share.Shares(credit=0.0))
    slow = await pool.run(jobs.nap, 0.3, limits=LIMITS)
    said = await asyncio.to_thread(Path(f"/proc/{slow}/autogroup").read_text)
    assert said.split()[-2:] == ["nice", "15"]


async def test_the_time_in_which_a_process_starts_is_not_the_call_s(pool: Pool) -> None:
    assert await pool.run(jobs.double, 1, limits=Limits(cpu=0.3, memory=128 << 20, wall=0.1)) == 2


async def test_a_worker_that_was_killed_while_it_waited_is_replaced(pool: Pool) -> None:
    await pool.run(jobs.process_id, limits=LIMITS)
    (worker,) = workers_of()
    worker.kill()
    await until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert await pool.run(jobs.double, 4, limits=LIMITS) == 8


async def test_a_worker_imports_what_it_needs_and_no_more(pool: Pool) -> None:
    assert await pool.run(jobs.loaded, limits=LIMITS) == ["colorsys"]


async def test_what_libraries_print_harms_no_reply(pool: Pool) -> None:
    assert await pool.run(jobs.chat, "said", limits=LIMITS) == "said"


async def test_a_worker_knows_no_secrets_and_leaves_no_files(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEROW_API_KEYS", "secret")
    assert not [name for name in await pool.run(jobs.environment, limits=LIMITS) if name.startswith("SEROW")]
    if sys.platform != "win32":
        assert await pool.run(jobs.write, str(tmp_path / "file"), limits=LIMITS) == "OSError"
        assert await pool.run(jobs.core_limit, limits=LIMITS) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process say so")
async def test_when_memory_ends_a_worker_goes_before_the_server(pool: Pool) -> None:
    assert await pool.run(jobs.oom_score, limits=LIMITS) > jobs.oom_score()


async def test_closing_ends_all_processes_and_tells_who_waits() -> None:
    async with Pool() as pool:
        tasks = [asyncio.create_task(pool.run(jobs.nap, 60.0, limits=LIMITS)) for _ in range(6)]
        await until(lambda: len(workers_of()) == 3)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in results)
    await until(lambda: not workers_of())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process that is busy with its parent")
async def test_workers_end_with_us_also_by_kill_9() -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.workers.parent", stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    assert {worker.pid for worker in workers_of(parent.pid)} == set(pids)
    parent.kill()
    await parent.wait()
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


async def test_closing_does_not_wait_for_a_process_that_the_system_does_not_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pools, "_ENDING", 0.1)
    end = Worker.end
    held: list[Worker] = []
    monkeypatch.setattr(Worker, "end", lambda self, reason="": held.append(self))
    pool = Pool()
    running = asyncio.create_task(pool.run(jobs.nap, 60.0, limits=LIMITS))
    await until(workers_of)
    async with asyncio.timeout(DEADLINE):
        await pool.aclose()
    assert "can't be ended" in caplog.text
    for worker in set(held):
        end(worker)
    with pytest.raises(Unavailable):
        await running
