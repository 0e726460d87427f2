"""An engine at work: several requests at once, clients that leave, long prompts, engines that are killed or hang."""

import asyncio
import os
import signal
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from serow.engines.kinds import Engine
from serow.engines.llamacpp.runner import LlamaRunner
from serow.errors import EngineDied, EngineError
from serow.settings import Settings
from tests.engines.llamacpp.engines import DEADLINE, ENDLESS, chat, chunks_of, completion, load_request, until_slots


@pytest.mark.req("LIFE-06")
async def test_reading_a_long_prompt_is_progress(think: LlamaRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[None] = []
    monkeypatch.setattr(think._watchdog, "progress", lambda: told.append(None))
    await chunks_of(think, completion([5] * 500, 1))
    assert len(told) > 500 / 128  # the largest batch that an engine takes on a CPU


async def test_an_engine_that_has_nothing_to_do_takes_no_cpu(think: LlamaRunner) -> None:
    await chunks_of(think, completion(await chat(think, "Hello"), 16))
    await until_slots(think, [False] * 4)
    process = psutil.Process(think.pid)

    def cpu() -> float:
        return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))

    before = cpu()
    with pytest.raises(psutil.TimeoutExpired):  # a second passes
        await asyncio.to_thread(process.wait, 1)
    assert cpu() - before <= 0.01  # which is as fine as the system counts


@pytest.mark.req("LIFE-05")
async def test_closing_the_iterator_frees_the_slot(think: LlamaRunner) -> None:
    async with aclosing(think.complete(completion(await chat(think, "Hello"), -1, **ENDLESS))) as chunks:
        await anext(chunks)
        await until_slots(think, [False, False, False, True])
    await until_slots(think, [False] * 4)


@pytest.mark.req("LIFE-05")
async def test_cancelling_the_task_frees_the_slot(think: LlamaRunner) -> None:
    task = asyncio.create_task(chunks_of(think, completion(await chat(think, "Hello"), -1, **ENDLESS)))
    await until_slots(think, [False, False, False, True])
    task.cancel()
    await asyncio.wait([task], timeout=DEADLINE)
    assert task.cancelled()
    await until_slots(think, [False] * 4)


@pytest.mark.req("LIFE-05")
async def test_cancelling_stops_the_reading_of_prompts(engine: Engine, zoo: Path) -> None:
    runner = LlamaRunner(load_request(zoo / "zoo-think.gguf", num_ctx=2048, num_batch=1, engine=engine), Settings())
    await runner.load()
    tasks = [asyncio.create_task(chunks_of(runner, completion([5] * 2000, 1))) for _ in range(4)]
    await until_slots(runner, [True] * 4)
    for task in tasks:
        task.cancel()
    await until_slots(runner, [False] * 4)
    async with runner._child.session.get("/slots") as response:
        read = [slot["n_prompt_tokens"] for slot in await response.json()]
    assert sum(read) < 8000
    await runner.close()


@pytest.mark.req("LIFE-02")
async def test_requests_run_together(think: LlamaRunner) -> None:
    prompt = await chat(think, "Hello")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(chunks_of(think, completion(prompt, -1, **ENDLESS))) for _ in range(4)]
        await until_slots(think, [True] * 4)
        for task in tasks:
            task.cancel()


@pytest.mark.req("LIFE-06")
async def test_an_engine_that_is_killed_fails_its_requests(engine: Engine, zoo: Path) -> None:
    runner = LlamaRunner(load_request(zoo / "zoo-think.gguf", engine=engine), Settings())
    await runner.load()
    prompt = await chat(runner, "Hello")
    tasks = [asyncio.create_task(chunks_of(runner, completion(prompt, -1, **ENDLESS))) for _ in range(2)]
    await until_slots(runner, [False, False, True, True])
    os.kill(runner.pid, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [(type(outcome), str(outcome)) for outcome in outcomes] == [(EngineDied, "the engine ended with signal 9")] * 2
    assert not runner.is_alive
    with pytest.raises(EngineDied):
        await runner.tokenize("Hello", add_special=True)
    await runner.close()


async def test_an_engine_that_hangs_is_given_up(engine: Engine, zoo: Path) -> None:
    runner = LlamaRunner(load_request(zoo / "zoo-think.gguf", engine=engine), Settings(stall_timeout=0.5))
    await runner.load()
    for part in (psutil.Process(runner.pid), *psutil.Process(runner.pid).children()):
        part.suspend()
    with pytest.raises(EngineError, match=r"^the engine does not answer$"):
        while True:  # the signal takes its time to stop every thread
            await runner.tokenize("Hello", add_special=True)
    assert not runner.is_alive
    await runner.close()
