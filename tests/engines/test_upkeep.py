"""What a server does for its engines by itself: when it checks them and stops, and what it builds."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from serow.engines import upkeep as module
from serow.engines.check.check import Tell
from serow.engines.check.checks import Check, Checks, Speeds
from serow.engines.home import Build, EngineHome
from serow.engines.kinds import Engine, FlagSet
from serow.engines.selection import WHEEL_CHOICE, Selection
from serow.engines.upkeep import Upkeep
from serow.errors import EngineError
from serow.settings import Settings
from serow.store.model import Model
from serow.system.lock import FileLock
from tests.scheduler.machine import GIB, model

DEADLINE = 20.0  # seconds
A, B = model("a", 1, weights="sha256-a"), model("b", 1, weights="sha256-b")
FAST, SLOW = Speeds(2.0, 2.0, 2.0, 2.0), Speeds(1.0, 1.0, 1.0, 1.0)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quiet comes at once."""
    monkeypatch.setattr(module, "QUIET", 0.0)
    monkeypatch.setattr(module, "LOOK", 0.001)
    monkeypatch.setattr(module, "_NOTICE", 0.001)
    monkeypatch.setattr(module, "free_memory", lambda: 64 * GIB)


class House:
    """A server's engines: one that was built, models, and checks that a test lets go on."""

    def __init__(self, root: Path) -> None:
        self.settings = Settings(engines=root / "engines")
        self.home = EngineHome(self.settings.engines)
        self.models = [A]
        self.is_busy = False
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.error: EngineError | None = None

    def build(self) -> None:
        self.home.claim()
        (self.home.root / "made").touch()
        self.home.install("ik", self.home.root / "made", Build(sha256="ab" * 32, source="", built_at=""))

    def upkeep(self) -> Upkeep:
        return Upkeep(self.settings, lambda: self.models, lambda: self.is_busy, self.check)

    async def check(self, engine: Engine, model: Model, settings: Settings, tell: Tell) -> AsyncGenerator[Check, None]:
        self.begun.put_nowait(model.name.model)
        try:
            await self.may_go_on.wait()
            if self.error:
                raise self.error
            for flags in engine.kind.flag_sets:
                yield Check.of(engine, flags, model, speeds=FAST, wheel=SLOW)
        finally:
            self.ended.put_nowait(model.name.model)

    def passed(self, model: Model) -> set[FlagSet]:
        return {each.flags for each in Checks(self.home.root).about(self.home.find("ik"), model) if each.passed}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    yield House(tmp_path)


async def soon(queue: asyncio.Queue[str]) -> str:
    async with asyncio.timeout(DEADLINE):
        return await queue.get()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - files and processes tell nobody
            await asyncio.sleep(0.001)


async def test_models_are_checked_one_after_the_other_and_what_passed_is_used_by_a_server_that_runs(house: House) -> None:
    selection = Selection(house.settings)
    house.build()
    house.models = [A, B]
    assert selection.choose(A, frozenset()) == WHEEL_CHOICE
    async with house.upkeep():
        assert [await soon(house.ended) for _ in range(2)] == ["a", "b"]
        await until(lambda: house.passed(B))
    assert selection.choose(A, frozenset()).engine.name == "ik"


async def test_a_request_ends_a_check_and_quiet_begins_it_anew(house: House) -> None:
    house.build()
    house.may_go_on.clear()
    async with house.upkeep():
        await soon(house.begun)
        house.is_busy = True
        await soon(house.ended)
        assert house.passed(A) == set()
        house.may_go_on.set()
        house.is_busy = False
        assert await soon(house.ended) == "a"


async def test_while_somebody_asks_nothing_is_checked(house: House) -> None:
    house.build()
    house.is_busy = True
    looks = 0

    def is_busy() -> bool:
        nonlocal looks
        looks += 1
        return True

    async with Upkeep(house.settings, lambda: house.models, is_busy, house.check):
        await until(lambda: looks >= 5)
    assert house.begun.empty()


async def test_what_was_checked_is_not_checked_again_and_what_fails_not_twice(house: House) -> None:
    house.build()
    house.error = EngineError("the wheel itself fails")
    async with house.upkeep():
        await soon(house.ended)
        house.error = None
        house.models = [A, B]
        assert await soon(house.ended) == "b"
    async with house.upkeep():  # as after a restart
        assert await soon(house.ended) == "a"
    assert house.passed(A) == set(house.home.find("ik").kind.flag_sets)
    house.models = [B]
    looks: list[int] = []

    def models() -> list[Model]:
        looks.append(1)
        return house.models

    async with Upkeep(house.settings, models, lambda: False, house.check):
        await until(lambda: len(looks) >= 3)
    assert house.begun.qsize() == 3


@pytest.mark.parametrize(
    "unfit", [model("c", 30 * GIB), model("d", 1, capabilities=("embedding",)), model("e", 1, capabilities=("image",))]
)
async def test_a_model_that_leaves_others_too_little_memory_or_writes_no_text_is_not_checked(
    house: House, unfit: Model
) -> None:
    house.build()
    house.models = [unfit, A]
    async with house.upkeep():
        assert await soon(house.begun) == "a"


async def test_two_servers_check_in_turn(house: House) -> None:
    house.build()
    with FileLock(house.home.root / "checking.lock") as lock:
        assert lock.acquire()
        async with house.upkeep():
            await asyncio.sleep(0.05)
            assert house.begun.empty()
    async with house.upkeep():
        assert await soon(house.begun) == "a"


async def test_leaving_ends_a_check(house: House) -> None:
    house.build()
    house.may_go_on.clear()
    async with house.upkeep():
        await soon(house.begun)
    assert house.ended.get_nowait() == "a"


def commanding(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let a program of Python stand for the command that builds."""
    monkeypatch.setattr(module, "build_command", lambda name: [sys.executable, "-c", program, name])


async def test_a_server_builds_what_was_wished_for_once_and_says_why_it_can_not(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commanding(monkeypatch, f"open({str(tmp_path / 'ran')!r}, 'a').write('x'); raise SystemExit('error: no space left')")
    house.home.wish("ik")
    async with house.upkeep():
        await until(lambda: "could not be built: no space left" in caplog.text)
        await asyncio.sleep(0.02)
    assert (tmp_path / "ran").read_text() == "x"


async def test_with_auto_it_builds_ik_where_there_is_none(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commanding(monkeypatch, f"import os, sys; open({str(tmp_path / 'ran')!r}, 'w').write(sys.argv[1])")
    automatic = Settings(engines=house.settings.engines, engine_build="auto")
    async with Upkeep(automatic, list, lambda: False, house.check):
        await until(lambda: (tmp_path / "ran").exists() and (tmp_path / "ran").read_text() == "ik")


async def test_an_engine_that_somebody_else_builds_is_waited_for(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commanding(monkeypatch, f"open({str(tmp_path / 'ran')!r}, 'w')")
    with house.home.lock("ik"):
        house.home.wish("ik")
        async with house.upkeep():
            await asyncio.sleep(0.05)
            assert not (tmp_path / "ran").exists()


async def test_who_begins_at_the_same_moment_as_another_one_waits_and_tries_again(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    others, tried = ExitStack(), asyncio.Event()

    async def build(name: str, _: Settings) -> str:
        if not tried.is_set():
            others.enter_context(house.home.lock(name))
            tried.set()
            return f"the engine {name} is being built"
        house.build()
        return ""

    monkeypatch.setattr(module, "_build", build)
    house.home.wish("ik")
    async with house.upkeep():
        await asyncio.wait_for(tried.wait(), DEADLINE)
        others.close()
        await until(lambda: house.home.build_of("ik") is not None)
    assert "could not be built" not in caplog.text


async def test_leaving_ends_a_build_and_the_wish_stays(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commanding(monkeypatch, f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(100)")
    house.home.wish("ik")
    async with house.upkeep():
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
    assert house.home.wishes() == ["ik"]
