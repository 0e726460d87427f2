"""Work that several callers want at the same time is done once: who leaves, leaves it to the others; the last one ends it."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from serow.errors import PullError


class Work(Protocol):
    """Something that can be run once."""

    async def run(self) -> None:
        """Do it."""
        ...


_Work = TypeVar("_Work", bound=Work)


class _Shared(Generic[_Work]):
    """A work, the task that runs it, and how many wait for it."""

    def __init__(self, work: _Work) -> None:
        self.work = work
        self.num_users = 0
        self.task = asyncio.ensure_future(work.run())


class Ticket(Generic[_Work]):
    """A part in a work: `wait` ends when it is done, or leaves it to the others."""

    def __init__(self, shared: _Shared[_Work], *, is_ours: bool) -> None:
        self._shared = shared
        self._is_ours = is_ours

    @property
    def work(self) -> _Work:
        """The work, for its progress."""
        return self._shared.work

    @property
    def may_ask_again(self) -> bool:
        """Whether it failed for somebody else, who may have had less to say."""
        task = self._shared.task
        failed = task.done() and not task.cancelled() and isinstance(task.exception(), PullError)
        return failed and not self._is_ours

    async def wait(self) -> None:
        """Wait until it is done; raises what it fails with."""
        try:
            await asyncio.shield(self._shared.task)
        finally:
            self._shared.num_users -= 1
            if not self._shared.num_users and not self._shared.task.done():
                self._shared.task.cancel()
                await asyncio.gather(self._shared.task, return_exceptions=True)


class Table(Generic[_Work]):
    """What is being done, by what it is about."""

    def __init__(self) -> None:
        self._running: dict[Hashable, _Shared[_Work]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._running

    def join(self, key: Hashable, make: Callable[[], _Work]) -> Ticket[_Work]:
        """Join the work of a key, or begin it. The ticket has to be waited for."""
        shared = self._running.get(key)
        is_ours = shared is None
        if shared is None:
            shared = self._running[key] = _Shared(make())
            shared.task.add_done_callback(lambda _: self._running.pop(key, None))
        shared.num_users += 1
        return Ticket(shared, is_ours=is_ours)
