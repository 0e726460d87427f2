"""Work that is never left behind: who is cancelled waits until his threads and tasks have ended."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def in_thread(function: Callable[..., _Result], *args: object) -> _Result:
    """Call a function in a thread. Unlike asyncio.to_thread it has ended when this ends, so that its files may be closed."""
    future = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        raise


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Run all of them; the first failure ends the others and is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
