"""An event loop whose clock jumps to the next timer when nothing else is left to do: minutes pass at once, in order."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")
DEADLINE = 3600.0  # virtual seconds; what would wait for ever fails at once


class _Selector(selectors.DefaultSelector):
    """Turns the time that the loop would sleep into a jump of its clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is left to happen"
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Asyncio without the waiting."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in virtual time, within a deadline."""

    async def within_deadline(*args: P.args, **kwargs: P.kwargs) -> None:
        async with asyncio.timeout(DEADLINE):
            await test(*args, **kwargs)

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(within_deadline(*args, **kwargs))

    return run


async def settle() -> None:
    """Let everything happen that needs no time."""
    await asyncio.sleep(1e-6)
