"""A process that changes a store without end until it is killed: pulls, makes, copies, pushes, deletes.

usage: python -m tests.library.busy_library STORE HOST      says `ready` when it begins
"""

import asyncio
import sys
from pathlib import Path

from serow.errors import SerowError
from serow.library import parts
from serow.library.library import Library
from serow.registries.asked import Asked
from serow.store.name import Name
from serow.store.recipe import Recipe
from serow.store.store import Store

PART = 1 << 18  # bytes: many parts, so that a kill comes between two of them


async def work(root: Path, host: str) -> None:
    """Change the store again and again."""
    library = Library(Store(root))
    source = Asked(Name.parse(f"{host}/zoo/tiny"), insecure=True, is_local=True)
    pushed = Asked(Name.parse(f"{host}/zoo/pushed"), insecure=True, is_local=True)
    print("ready", flush=True)
    for number in range(10_000):
        try:
            async for _ in library.pull(source):
                pass
            for name in ("a", "b"):
                recipe = Recipe(source=source.name, system=f"{name} {number}", license=("x" * 10_000,))
                async for _ in library.create(Name.parse(name), recipe):
                    pass
            await library.copy(Name.parse("a"), Name.parse("c"), "a")
            await library.copy(Name.parse("a"), pushed.name, "a")
            async for _ in library.push(pushed):
                pass
            await library.delete(pushed.name, "pushed")
            await library.delete(Name.parse("b"), "b")
            await library.delete(source.name, str(source.name))
            await library.delete(Name.parse("a"), "a")
            await library.delete(Name.parse("c"), "c")
        except SerowError as error:
            print("error", error, flush=True)


if __name__ == "__main__":
    parts.SMALL_PART = PART
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2]))
