"""Who may work now: a few processes, a queue for each client, one call of each in turn.

    result = await pool.run(function, argument, …, client=client, limits=Limits(cpu=1.0, memory=256 << 20))

`function` is one of a module of ours that says what it returns; its module may name in `PRELOAD` what it imports late, so
that our own process need not. What a call costs beyond its limits, the queue included, is paid by its client alone: the
process is ended and replaced. A caller that is cancelled ends its call. Where a client had much done lately, more of the
same is done one after the other, with what others leave of the cores; what may wait for a short time only begins while
engines answer others when that is paid for.
"""

import asyncio
import logging
import math
import os
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, TypeVar, TypeVarTuple

from serow.errors import LimitExceeded, Unavailable
from serow.system.limits import HAS_CPU_LIMIT, HAS_MEMORY_LIMIT
from serow.workers import child
from serow.workers.frames import Call, Kind
from serow.workers.reply import result
from serow.workers.share import Account, Shares, Work
from serow.workers.worker import Ended, Worker

NUM_WORKERS = 4
NUM_HEAVY = 2  # of these, calls that may take much memory at a time
NUM_WARM = 2  # processes that stay when there is nothing to do, and as many of those that others come before
MOST_WAITING = 256  # calls of one client
LONGEST_WAIT = 20.0  # seconds in the queue
HEAVY = 512 << 20  # bytes

_TICK = 0.05  # seconds between two looks at a process
_FEW = max(1, (os.cpu_count() or 1) // 2)  # calls of one client together while engines answer others
_LOOK_AGAIN = 0.25  # seconds until those that wait for credit are looked at again
_ENDING = 10.0  # seconds that the system may take to end what was killed
_KEPT = 20.0  # seconds for which processes that others come before stay when they have nothing to do

logger = logging.getLogger(__name__)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True)
class Limits:
    """What one call may use."""

    cpu: float  # seconds
    memory: int  # bytes beside what the process holds anyway
    wall: float = 30.0  # seconds, since the machine may be busy
    wait: float = LONGEST_WAIT  # seconds in the queue, and until a process is ready, for one that had much of the same lately

    @property
    def is_heavy(self) -> bool:
        """Whether few of such calls may run together."""
        return self.memory > HEAVY


_WARMING = Limits(cpu=10.0, memory=256 << 20, wall=60.0)  # a process starts, and imports what a call needs


@dataclass(eq=False)
class _Ticket:
    work: Work
    limits: Limits
    turn: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def client(self) -> str:
        """Whose it is."""
        return self.work[0]

    @property
    def may_be_refused(self) -> bool:
        """Whether it is a program of a client: what the server does for itself, and what has time, is done in any case."""
        return bool(self.client) and self.limits.wait < LONGEST_WAIT


class Pool:
    """Processes for hostile work, started when they are needed and kept. Belongs to one event loop; `aclose` ends it."""

    def __init__(self, size: int = NUM_WORKERS) -> None:
        self._size = size
        self._most_of_one = max(1, size - 1)  # one place is always left for another client
        self._threads = ThreadPoolExecutor(size + 1, thread_name_prefix="workers")
        self._idle: list[Worker] = []
        self._slow: list[Worker] = []  # those that others come before
        self._tidying: asyncio.TimerHandle | None = None
        self._shares = Shares()
        self._busy: set[Worker] = set()
        self._closing: set[asyncio.Future[None]] = set()
        self._waiting: OrderedDict[str, deque[_Ticket]] = OrderedDict()  # who was served last is last
        self._running: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()  # requests of each client that engines work on
        self._looking: asyncio.TimerHandle | None = None
        self._num_heavy = 0
        self._modules: dict[str, None] = {}
        self._replacing: asyncio.Task[None] | None = None
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0

    async def __aenter__(self) -> Self:
        self._loop, self._loop_thread = asyncio.get_running_loop(), threading.get_ident()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every process; calls that run or wait fail with Unavailable."""
        self._is_closed = True
        for tickets in self._waiting.values():
            for ticket in tickets:
                if not ticket.turn.done():
                    ticket.turn.set_exception(Unavailable("the server is shutting down"))
        self._waiting.clear()
        if self._looking is not None:
            self._looking.cancel()
        self._close_slow()
        for worker in self._idle:
            self._close(worker)
        for worker in self._busy:
            worker.end()
        try:
            async with asyncio.timeout(_ENDING):
                while self._busy or self._closing or self._replacing:
                    await asyncio.wait({*self._closing, asyncio.ensure_future(asyncio.sleep(_TICK / 10))})
        except TimeoutError:
            logger.error("processes of workers can't be ended: the system holds them in a call, maybe of a disk")
        else:
            self._threads.shutdown()

    async def run(self, function: Callable[[*Ts], T], *args: *Ts, client: str = "", limits: Limits) -> T:
        """What the function returns for the arguments, which must be plain data.

        Raises the SerowError that it raises; LimitExceeded; Unavailable when the client has too much waiting, or for too long.
        """
        if self._is_closed:
            raise Unavailable("the server is shutting down")
        call = Call(function.__module__, function.__name__, args, limits.cpu, limits.memory)
        work = client, f"{call.name}, heavy" if limits.is_heavy else call.name
        async with self._place(work, limits):
            self._modules[call.module] = None
            kind, payload = await self._call(call, limits, work)
        return result(function, kind, payload)

    async def run_here(self, threads: Executor, function: Callable[[*Ts], T], *args: *Ts, client: str, limits: Limits) -> T:
        """`run` in a thread of our own process, for what is bounded by itself: only its CPU time counts. Raises Unavailable."""
        ticket = _Ticket((client, function.__name__), limits)
        self._check_credit(ticket)

        def timed() -> T:
            begun = time.thread_time()
            try:
                return function(*args)
            finally:
                used.append(time.thread_time() - begun)

        used = list[float]()
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, timed)
        finally:
            self._shares.charge(ticket.work, sum(used))

    def call(self, function: Callable[[*Ts], T], *args: *Ts, client: str = "", limits: Limits) -> T:
        """`run` for a thread that may block. In the loop's own thread, and without a loop, the function runs there."""
        if self._loop is None or self._loop_thread == threading.get_ident():
            return function(*args)
        return asyncio.run_coroutine_threadsafe(self.run(function, *args, client=client, limits=limits), self._loop).result()

    @contextmanager
    def giving_way(self, client: str) -> Iterator[None]:
        """An engine works for a client meanwhile: what others had too much of has to wait."""
        self._answered[client] += 1
        try:
            yield
        finally:
            self._answered[client] -= 1
            if not self._answered[client]:
                del self._answered[client]
            self._admit()

    @asynccontextmanager
    async def _place(self, work: Work, limits: Limits) -> AsyncIterator[None]:
        """Wait for a process, one call of each client after the other."""
        ticket = _Ticket(work, limits)
        self._check_credit(ticket)
        queue = self._waiting.setdefault(ticket.client, deque())
        if len(queue) >= MOST_WAITING:
            raise Unavailable("server busy, please try again: too much of this client's is being prepared")
        queue.append(ticket)
        self._admit()
        try:
            async with asyncio.timeout(LONGEST_WAIT if self._shares.credit(work) > 0 else limits.wait):
                await ticket.turn
        except BaseException as error:
            self._withdraw(ticket)
            if isinstance(error, TimeoutError):
                raise Unavailable("server busy, please try again: too much is being prepared") from None
            raise
        try:
            yield
        finally:
            self._release(ticket)

    def _admit(self) -> None:
        """Give every free place away: to the client served longest ago whose next call may run."""
        while self._running.total() < self._size and (ticket := self._next()):
            self._running[ticket.client] += 1
            self._num_heavy += ticket.limits.is_heavy
            ticket.turn.set_result(None)
        if self._looking is None and self._waiting and self._answered and not self._is_closed:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        """Some may have credit again."""
        self._looking = None
        self._admit()

    def _check_credit(self, ticket: _Ticket) -> None:
        """Raise Unavailable for one that would wait in vain."""
        wait = self._shares.wait(ticket.work)
        if wait > ticket.limits.wait and self._must_give_way(ticket):
            error = Unavailable(
                "server busy, please try again: others are being answered, and much of this client's was prepared"
            )
            error.retry_after = math.ceil(wait)
            raise error

    def _must_give_way(self, ticket: _Ticket) -> bool:
        return ticket.may_be_refused and any(client != ticket.client for client in self._answered)

    def _next(self) -> _Ticket | None:
        for client, queue in self._waiting.items():
            ticket = next((each for each in queue if self._may_run(each)), None)
            if ticket is not None:
                self._remove(ticket)
                if client in self._waiting:
                    self._waiting.move_to_end(client)
                return ticket
        return None

    def _may_run(self, ticket: _Ticket) -> bool:
        has_credit, most = self._shares.credit(ticket.work) > 0, self._most_of_one
        if self._must_give_way(ticket):
            most = min(most, _FEW) if has_credit else 0
        elif not has_credit:
            most = 1
        return self._running[ticket.client] < most and (not ticket.limits.is_heavy or self._num_heavy < NUM_HEAVY)

    def _remove(self, ticket: _Ticket) -> None:
        queue = self._waiting[ticket.client]
        queue.remove(ticket)
        if not queue:
            del self._waiting[ticket.client]

    def _withdraw(self, ticket: _Ticket) -> None:
        """Its caller has gone, maybe just when its turn came."""
        if ticket.turn.done() and not ticket.turn.cancelled() and ticket.turn.exception() is None:
            self._release(ticket)
        elif ticket in self._waiting.get(ticket.client, ()):
            self._remove(ticket)

    def _release(self, ticket: _Ticket) -> None:
        self._running[ticket.client] -= 1
        if not self._running[ticket.client]:
            del self._running[ticket.client]
        self._num_heavy -= ticket.limits.is_heavy
        self._admit()

    async def _call(self, call: Call, limits: Limits, work: Work) -> tuple[Kind, bytes]:
        """The reply of a process that has imported what it needs by then, so that only the work itself has limits."""
        account = Account(self._shares, work)
        is_slow = account.is_empty
        worker = self._free_worker(is_slow=is_slow)
        self._busy.add(worker)
        try:
            if call.module not in worker.imported:
                await self._warm(worker, (call.module,), limits.wait if is_slow else _WARMING.wall)
            try:
                return await self._execute(worker, call, limits, account)
            except Ended as ended:
                worker.seconds = limits.cpu
                raise LimitExceeded(ended.reason) from None
            finally:
                account.pay(worker.seconds)
        except Ended as ended:
            raise Unavailable(f"server busy, please try again: a process {ended.reason} while it started") from None
        finally:
            self._busy.discard(worker)
            self._put_back(worker)

    async def _warm(self, worker: Worker, modules: tuple[str, ...], wall: float = _WARMING.wall) -> None:
        """Have it import what a call needs; one that others come before may take long to start. Raises Ended."""
        call = Call(child.__name__, child.warm.__name__, (modules,), _WARMING.cpu, _WARMING.memory)
        await self._execute(worker, call, replace(_WARMING, wall=wall))
        worker.imported.update(modules)

    async def _execute(self, worker: Worker, call: Call, limits: Limits, account: Account | None = None) -> tuple[Kind, bytes]:
        """Raises Ended; who is cancelled ends the process. When the account is empty others come first."""
        working = asyncio.get_running_loop().run_in_executor(self._threads, worker.call, call)
        try:
            await self._watch(worker, working, limits, account)
            return working.result()
        except Ended:
            if self._is_closed:
                raise Unavailable("the server is shutting down") from None
            raise
        except asyncio.CancelledError:
            worker.end()
            await asyncio.gather(working, return_exceptions=True)
            raise

    def _free_worker(self, *, is_slow: bool) -> Worker:
        idle = self._slow if is_slow else self._idle
        while idle:
            worker = idle.pop()
            if worker.is_usable:
                return worker
            self._close(worker)
        return Worker(is_slow=is_slow)

    async def _watch(self, worker: Worker, working: "asyncio.Future[Any]", limits: Limits, account: Account | None) -> None:
        """Return when the call has ended; see that it ends."""
        clock = asyncio.get_running_loop().time
        start, before = clock(), None if HAS_CPU_LIMIT else worker.used()[0]
        while not (await asyncio.wait({working}, timeout=_TICK))[0]:
            cpu, memory = worker.used()
            before = cpu if before is None else before
            if account is not None:
                account.pay(cpu - before)
            if worker.is_slow or (account is not None and account.is_empty):
                worker.lower_priority()
            if clock() - start >= limits.wall or (not HAS_CPU_LIMIT and cpu - before > limits.cpu):
                worker.end("took too much time")
            if not HAS_MEMORY_LIMIT and memory > limits.memory + child.LARGEST:
                worker.end("needed too much memory")

    def _put_back(self, worker: Worker) -> None:
        idle = self._slow if worker.is_slow else self._idle
        if worker.is_usable and len(idle) < NUM_WARM and not self._is_closed:
            idle.append(worker)
            if worker.is_slow:
                self._tidy_later()
        else:
            self._close(worker)
        if not self._idle and self._replacing is None and not self._is_closed:
            next_one = Worker()
            self._busy.add(next_one)
            self._replacing = asyncio.get_running_loop().create_task(self._replace(next_one))

    def _tidy_later(self) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
        self._tidying = asyncio.get_running_loop().call_later(_KEPT, self._close_slow)

    def _close_slow(self) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
        while self._slow:
            self._close(self._slow.pop())

    def _close(self, worker: Worker) -> None:
        closing = asyncio.get_running_loop().run_in_executor(self._threads, worker.close)
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _replace(self, worker: Worker) -> None:
        """Have a process ready for the next call, with all imported that was needed so far."""
        try:
            await self._warm(worker, tuple(self._modules))
        except (Ended, Unavailable) as error:
            if not self._is_closed:
                logger.warning("a worker did not start: %s", error)
            self._close(worker)
        else:
            self._put_back(worker)
        finally:
            self._busy.discard(worker)
            self._replacing = None
