"""A context that takes long to enter, and what is said while it does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

QUIET = 0.5  # seconds; what is refused is refused within them, and has a status of its own


class Awaited(Generic[T]):
    """Enters a context in a task of its own, so that others hear of it meanwhile; leaving it leaves the context, too."""

    def __init__(self, context: AbstractAsyncContextManager[T]) -> None:
        self._context = context
        self._entering: asyncio.Task[T] | None = None

    async def __aenter__(self) -> Self:
        """Begin to enter."""
        self._entering = asyncio.create_task(self._context.__aenter__())
        return self

    async def told(self, status: Callable[[], str]) -> AsyncIterator[str]:
        """What is waited for, whenever it changes, until the context is entered or fails."""
        assert self._entering is not None
        last = ""
        while not (await asyncio.wait({self._entering}, timeout=QUIET))[0]:
            if (now := status()) != last:
                yield now
            last = now

    async def entered(self) -> T:
        """What the context gives; raises what it fails with."""
        assert self._entering is not None
        return await self._entering

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Leave the context where it was entered, give up entering it where it was not."""
        assert self._entering is not None
        self._entering.cancel()
        await asyncio.gather(self._entering, return_exceptions=True)
        if self._entering.cancelled() or self._entering.exception() is not None:
            return None
        return await self._context.__aexit__(kind, error, trace)
