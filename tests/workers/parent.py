"""A process with a pool of which one worker works for ever and one waits; prints their ids, then waits to be killed."""

import asyncio

from serow.workers.pool import Limits, Pool
from tests.workers import jobs


async def main() -> None:
    limits = Limits(cpu=600, memory=256 << 20, wall=600)
    async with Pool() as pool:
        first, second = await asyncio.gather(*(pool.run(jobs.nap, 0.2, limits=limits) for _ in range(2)))
        working = asyncio.create_task(pool.run(jobs.spin, limits=limits))
        print(first, second, flush=True)
        await working


if __name__ == "__main__":
    asyncio.run(main())
