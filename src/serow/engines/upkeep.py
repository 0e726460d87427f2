"""What a server does for its engines by itself: it builds the one that is wanted, and checks those that are here.

A build is a process of its own that comes last everywhere; one that a stop has ended is gone on with at the next start. A
check needs quiet: it begins when nobody has asked for anything for a while, and is given up as soon as somebody does. What
passed is used from the next load on.
"""

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import TracebackType
from typing import NamedTuple, Self

from serow.engines.attention import settled
from serow.engines.check.check import Tell, check
from serow.engines.check.checks import Check, Checks, model_key
from serow.engines.home import EngineHome, disk_errors
from serow.engines.kinds import DEFAULT_FLAGS, IK, WHEEL, Engine, Feature
from serow.errors import SerowError
from serow.settings import Settings
from serow.store.model import Model
from serow.system.lock import FileLock
from serow.system.memory import free_memory

QUIET = 60.0  # seconds without a request before a check begins
LOOK = 5.0  # seconds between two looks at whether there is something to do
_NOTICE = 0.25  # seconds in which a check notices a request
_COPIES, _SPARE = 3, 1 << 30  # a check holds the weights twice and repacked, and some bytes more
_LOCK = "checking.lock"
_TAIL = 2000  # bytes of what a build says at its end
_log = logging.getLogger(__name__)

CheckFunction = Callable[[Engine, Model, Settings, Tell], AsyncGenerator[Check, None]]


class _Job(NamedTuple):
    """One check to do."""

    engine: Engine
    model: Model

    @property
    def key(self) -> tuple[str, str]:
        return self.engine.build, model_key(self.model)


class Upkeep:
    """The owner of both; an async context manager that ends them when it is left."""

    def __init__(
        self, settings: Settings, models: Callable[[], list[Model]], is_busy: Callable[[], bool], check: CheckFunction = check
    ) -> None:
        self._settings, self._models, self._is_busy, self._check = settings, models, is_busy, check
        self._home, self._checks = EngineHome(settings.engines), Checks(settings.engines)
        self._done: set[tuple[str, str]] = set()  # what was tried to its end, however it ended
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin."""
        self._tasks.append(asyncio.create_task(self._keep_built(), name="the build of an engine"))
        if self._settings.engine_check:
            self._tasks.append(asyncio.create_task(self._keep_checked(), name="checks of engines"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                _log.error("the upkeep of the engines failed", exc_info=result)

    async def _keep_built(self) -> None:
        tried: set[str] = set()
        while names := self._wanted() - tried:
            name = min(names)
            if self._home.is_locked(name):  # by another server or command: it may be killed yet
                await asyncio.sleep(LOOK)
                continue
            tried.add(name)
            _log.info("building the engine %s where nothing else wants the cores", name)
            said = await _build(name, self._settings)
            if name in {engine.name for engine in self._home.engines()}:
                _log.info("the engine %s is built; models are checked with it when nobody asks for anything", name)
            elif self._home.is_locked(name):  # another one began at the same moment, and may be killed yet
                tried.discard(name)
            else:
                _log.warning("the engine %s could not be built: %s", name, said)

    def _wanted(self) -> set[str]:
        """What is to be built: builds in the background that were not ended by themselves, and ik where that is set."""
        wanted = set(self._home.wishes())
        if self._settings.engine_build == "auto" and IK.name not in {engine.name for engine in self._home.engines()}:
            wanted.add(IK.name)
        return wanted

    async def _keep_checked(self) -> None:
        quiet_since = time.monotonic()
        while True:
            await asyncio.sleep(LOOK)
            if self._is_busy():
                quiet_since = time.monotonic()
                continue
            is_quiet = time.monotonic() - quiet_since >= QUIET
            job = await asyncio.to_thread(self._next) if is_quiet else None
            if job and not await self._try(job):
                quiet_since = time.monotonic()

    def _next(self) -> _Job | None:
        """The first engine and model that were not tried together, and that the memory has room for."""
        engines = [engine for engine in self._home.engines() if engine != WHEEL]
        models = self._models() if engines else []
        jobs = (_Job(engine, model) for engine in engines for model in models if _is_text(model, engine))
        return next(
            (job for job in jobs if job.key not in self._done and not self._is_known(job) and _has_room(job.model)), None
        )

    def _is_known(self, job: _Job) -> bool:
        settle = settled(self._settings, job.model)
        checks = self._checks.about(job.engine, job.model, settle(DEFAULT_FLAGS))
        tried = {result.flags: result.passed for result in checks}
        return job.engine.kind.next_to_try(tried, settle, has_draft=job.model.can_be_guessed_for) is None

    async def _try(self, job: _Job) -> bool:
        """Check until it is done or somebody asks for something; whether it is done."""
        with FileLock(self._settings.engines / _LOCK) as lock:
            if not lock.acquire():
                return False  # another server is at it
            task = asyncio.create_task(self._check_one(job))
            try:
                while not task.done() and not self._is_busy():
                    await asyncio.wait({task}, timeout=_NOTICE)
            finally:
                is_done = task.done()
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if is_done:
            self._done.add(job.key)
        else:
            _log.info("the check is given up until it is quiet again")
        return is_done

    async def _check_one(self, job: _Job) -> None:
        name, passed = job.model.name.display_shortest, []
        _log.info("checking %s with the engine %s while nobody asks for anything", name, job.engine.name)
        try:
            async with aclosing(self._check(job.engine, job.model, self._settings, lambda *_: None)) as results:
                async for result in results:
                    await asyncio.to_thread(self._checks.put, [result])
                    passed += [result] * result.passed
        except SerowError as error:
            _log.warning("%s can't be checked with the engine %s: %s", name, job.engine.name, error)
            return
        best = max((result.speedup for result in passed), default=0.0)
        _log.info("%s with the engine %s: %s", name, job.engine.name, f"{best:.2f} of the wheel's speed" if best else "failed")


def _is_text(model: Model, engine: Engine) -> bool:
    needs = frozenset({Feature.VISION}) if model.projector else frozenset()
    return "completion" in model.capabilities and not model.is_image and model.tokenizer is None and engine.can(needs)


def _has_room(model: Model) -> bool:
    """Whether a check leaves half of the free memory to the one who asks for something meanwhile."""
    return _COPIES * model.size + _SPARE <= free_memory() // 2


async def _build(name: str, settings: Settings) -> str:
    """Run the command that builds it; the end of what it says. Cancelled, it ends the command, which leaves what is done."""
    process = await asyncio.create_subprocess_exec(
        *build_command(name),
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
        start_new_session=True,
        env=os.environ | {"SEROW_ENGINES": str(settings.engines)},
    )
    assert process.stderr is not None
    said = b""
    try:
        while piece := await process.stderr.read(_TAIL):
            said = (said + piece)[-_TAIL:]
        await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
    lines = [line for line in said.decode(errors="replace").splitlines() if line.startswith("error: ")]
    return lines[-1].removeprefix("error: ") if lines else f"it ended with {process.returncode}"


def build_command(name: str) -> list[str]:
    """`serow engine build` for a process that comes last."""
    return [sys.executable, "-m", "serow", "engine", "build", name, "--lowest"]


def start_build(name: str, home: EngineHome) -> None:
    """Build in the background, whatever becomes of this process; raises RequestError, StoreError."""
    home.wish(name)
    with disk_errors(), home.said_by(name).open("wb") as said:
        environ = os.environ | {"SEROW_ENGINES": str(home.root)}
        process = subprocess.Popen(
            build_command(name),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            env=environ,
        )
    process.returncode = 0  # it outlives us on purpose; else Popen warns
