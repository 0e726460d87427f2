"""Several answers to one request, decoded together; their events come as they are made (OAI-07, OAI-15)."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from serow.inference.ask import Ask
from serow.inference.events import Chosen, Event

AT_ONCE = 16  # of one request; the others wait, so that it does not fill the server's queue
_WAITING = 64  # events that nobody has read yet; whoever writes more waits

Answer = Callable[[Ask], AsyncGenerator[Event, None]]


async def choices(asks: Sequence[Ask], answer: Answer) -> AsyncGenerator[Chosen, None]:
    """Yield the events of each Ask with its number. The first that fails ends all; closing the iterator does, too."""
    if len(asks) == 1:
        async with aclosing(answer(asks[0])) as events:
            async for event in events:
                yield 0, event
        return
    queue: asyncio.Queue[Chosen | None] = asyncio.Queue(_WAITING)
    work = asyncio.create_task(_all(asks, answer, queue))
    try:
        while (chosen := await queue.get()) is not None:
            yield chosen
        await work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _all(asks: Sequence[Ask], answer: Answer, queue: asyncio.Queue[Chosen | None]) -> None:
    """Write the events of all, then None, whatever happens."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, ask: Ask) -> None:
        async with places, aclosing(answer(ask)) as events:
            async for event in events:
                await queue.put((number, event))

    tasks = [asyncio.create_task(one(number, ask)) for number, ask in enumerate(asks)]
    try:
        await _first_failure(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await queue.put(None)


async def _first_failure(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for all; raises as soon as one has failed."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
