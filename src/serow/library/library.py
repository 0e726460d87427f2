"""The library: one object that changes the models of a store, and tells those who have them loaded."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any

from serow.errors import ModelNotFound, SerowError
from serow.registries.package_index.pull import pull
from serow.store.create import Recipe
from serow.store.model import Model
from serow.store.name import Name
from serow.store.store import Store

Record = dict[str, Any]
Forget = Callable[[Model], Awaitable[None]]


async def _nobody(_: Model) -> None:
    """Nobody has models loaded: the command line on a store of its own."""


class Library:
    """Changes to the models of one store. `forget` is told of each model whose files have changed."""

    def __init__(self, store: Store, forget: Forget = _nobody) -> None:
        self.store = store
        self._forget = forget

    async def copy(self, source: Name, destination: Name, asked: str) -> None:
        """Give a model a second name; raises ModelNotFound in the words of `asked`, ModelFileError, StoreError."""
        if not self.store.has(source):
            raise ModelNotFound(asked, quote='"')
        replaced = await self._known(destination)
        await asyncio.to_thread(self.store.copy, source, destination)
        await self._changed(replaced)

    async def delete(self, name: Name, asked: str) -> None:
        """Remove a name, and what only it needed; raises ModelNotFound in the words of `asked`, StoreError."""
        if not self.store.has(name):
            raise ModelNotFound(asked)
        removed = await self._known(name)
        await asyncio.to_thread(self.store.delete, name)
        await self._changed(removed)

    async def create(self, name: Name, recipe: Recipe) -> AsyncGenerator[Record, None]:
        """Make a model, of a source that is pulled first when it is not here; yields progress."""
        if recipe.source is not None and not self.store.has(recipe.source):
            async with aclosing(self.pull(recipe.source)) as records:
                async for record in records:
                    if record.get("status") != "success":
                        yield record
        replaced = await self._known(name)
        async for status in _steps(self.store.create(name, recipe)):
            yield {"status": status}
        await self._changed(replaced)
        yield {"status": "success"}

    async def pull(self, name: Name) -> AsyncGenerator[Record, None]:
        """Bring a model from where models come from; yields progress, sizes in bytes."""
        replaced = await self._known(name)
        async with aclosing(pull(str(name), self.store)) as records:
            async for record in records:
                if record.get("status") == "success":
                    await self._changed(replaced)
                yield record

    async def _known(self, name: Name) -> Model | None:
        """What a name stands for before it changes; None when it is new or broken."""
        try:
            return await asyncio.to_thread(self.store.resolve, str(name))
        except SerowError:
            return None

    async def _changed(self, model: Model | None) -> None:
        if model is not None:
            await self._forget(model)


async def _steps(steps: Iterator[str]) -> AsyncIterator[str]:
    """Take steps outside the event loop."""
    while (step := await asyncio.to_thread(next, steps, None)) is not None:
        yield step
