"""Blocking work outside the event loop that is never left behind: who is cancelled waits until its thread has ended."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


async def in_thread(function: Callable[..., _Result], *args: object) -> _Result:
    """Call a function in a thread. Unlike asyncio.to_thread it has ended when this ends, so that its files may be closed."""
    future = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        raise
