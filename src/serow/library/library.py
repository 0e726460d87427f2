"""The library: one object that changes the models of a store, and tells those who have them loaded."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from serow.engines.vllm.environment import is_there
from serow.errors import ModelNotFound, SerowError
from serow.library.create import create
from serow.library.downloads import Partial
from serow.library.progress import Record, repeated
from serow.library.pull import Pulls
from serow.library.push import Pushes
from serow.library.verify import verify
from serow.registries.access import Access
from serow.registries.asked import Asked
from serow.settings import Settings
from serow.store.create import Recipe
from serow.store.engine_address import addresses_of, check_allowed
from serow.store.model import Model
from serow.store.name import Name
from serow.store.prune import Waste, prune
from serow.store.store import Store
from serow.system.work import in_thread

Forget = Callable[[Model], Awaitable[None]]


async def _nobody(_: Model) -> None:
    """Nobody has models loaded: the command line on a store of its own."""


class Library:
    """Changes to the models of one store. `forget` is told of each model whose files have changed."""

    def __init__(self, store: Store, settings: Settings | None = None, forget: Forget = _nobody) -> None:
        settings = settings or Settings()
        self.store = store
        self._settings = settings
        self.access = Access.load(settings)
        self._forget = forget
        self._partial_age = settings.partial_age
        self._remotes, self._is_offline = settings.remotes, settings.offline
        self._pulling: dict[Name, list[asyncio.Event]] = {}
        limits = settings.pull_connections, settings.pull_rate
        self._pulls = Pulls(store, self.access, *limits)
        self._pushes = Pushes(store, self.access, *limits)

    async def copy(self, source: Name, destination: Name, asked: str) -> None:
        """Give a model a second name; raises ModelNotFound in the words of `asked`, ModelFileError, StoreError."""
        if not self.store.has(source):
            raise ModelNotFound(asked, quote='"')
        replaced = await self._known(destination)
        await in_thread(self.store.copy, source, destination)
        await self._changed(replaced)

    async def delete(self, name: Name, asked: str) -> list[str]:
        """Remove a name, and what only it needed; a pull of it ends, and what an unfinished one has left goes, too.

        Returns warnings. Raises ModelNotFound in the words of `asked`, RequestError for what is only read, StoreError.
        """
        pulls = self._pulling.get(name, ())
        for ended in pulls:
            ended.set()
        num_partial = await in_thread(self._pulls.downloads.remove_of, name.display_shortest)
        if not self.store.has(name):
            if pulls or num_partial:
                return []
            raise ModelNotFound(asked)
        await in_thread(self.store.require_removable, name)
        removed = await self._known(name)
        await self._changed(removed)  # it is unloaded before its files go
        further = await in_thread(self.store.delete, name)
        await self._changed(removed)
        return [f"{name.display_shortest} is still there: {further} has one, too, and is only read"] if further else []

    async def freed(self, name: Name, asked: str) -> int:
        """Bytes that deleting a model would free; raises ModelNotFound in the words of `asked`, StoreError."""
        if not self.store.has(name):
            raise ModelNotFound(asked)
        return await in_thread(self.store.freed, name)

    async def prune(self, older: float, *, dry_run: bool) -> list[Waste]:
        """Remove what belongs to no model; returns what was found. Raises RequestError, StoreError."""
        return await in_thread(partial(prune, self.store, older, dry_run=dry_run))

    async def partials(self) -> list[Partial]:
        """What unfinished downloads have left."""
        return await in_thread(self._pulls.downloads.partials)

    async def verify(self, name: Name | None) -> AsyncGenerator[Record, None]:
        """Read the blobs of a model again, or of all; yields progress. Raises ModelNotFound, ModelFileError."""
        names = [name] if name else [model.name for model in await in_thread(self.store.list)]
        async with aclosing(repeated(verify(self.store, names, self._pulls.downloads.folder))) as records:
            async for record in records:
                yield record
        yield {"status": "success"}

    def notices(self) -> Iterator[str]:
        """What whoever starts a server should know. Blocks."""
        if shown := self.access.proxies.shown:
            yield f"models are fetched through {shown}"
        root = self.store.root
        if root.exists() and not os.access(root, os.W_OK):
            yield f"the model store in {root} can't be written: models run, none can be pulled or made"
        for further in self.store.further:
            if not further.is_dir():
                yield f"the further model store {further} is not there: its models appear when it comes"

    def sweep(self) -> int:
        """Remove what unfinished downloads have left that is too old; returns how many. Blocks."""
        return self._pulls.downloads.sweep(self._partial_age)

    async def create(self, name: Name, recipe: Recipe, source: Asked | None = None) -> AsyncGenerator[Record, None]:
        """Make a model, of a `source` that is pulled first when it is not here; yields progress.

        Whatever can be refused is, before the first record: RequestError, ModelFileError. Nothing is left of what failed.
        """
        recipe.check()
        recipe = replace(recipe, keeps_folder=not recipe.quantize and is_there(self._settings))
        if recipe.remote_host:
            check_allowed(addresses_of(recipe.remote_host), self._remotes, is_offline=self._is_offline)
        if source is not None and not self.store.has(source.name):
            async with aclosing(self.pull(source)) as records:
                async for record in records:
                    if record.get("status") != "success":
                        yield record
        replaced = await self._known(name)
        warnings = list(recipe.warnings)
        async with aclosing(create(self.store, name, recipe, warnings)) as records:
            async for record in records:
                yield record
        await self._changed(replaced)
        made = await self._known(name)
        warnings += filter(None, [made.refusal if made else ""])
        yield {"status": "success", **({"warnings": warnings} if warnings else {})}

    async def pull(self, asked: Asked) -> AsyncGenerator[Record, None]:
        """Bring a model from where models come from; yields progress, sizes in bytes."""
        replaced, ended = await self._known(asked.name), asyncio.Event()
        self._pulling.setdefault(asked.name, []).append(ended)
        try:
            async with aclosing(repeated(self._pulls.pull(asked), ended)) as records:
                async for record in records:
                    yield record
        finally:
            self._pulling[asked.name].remove(ended)
            if not self._pulling[asked.name]:
                del self._pulling[asked.name]
        await self._changed(replaced)
        yield {"status": "success"}

    async def push(self, asked: Asked) -> AsyncGenerator[Record, None]:
        """Bring a model to the registry that its name says; yields progress, sizes in bytes."""
        async with aclosing(repeated(self._pushes.push(asked))) as records:
            async for record in records:
                yield record
        yield {"status": "success"}

    async def _known(self, name: Name) -> Model | None:
        """What a name stands for before it changes; None when it is new or broken."""
        try:
            return await in_thread(self.store.resolve, str(name))
        except SerowError:
            return None

    async def _changed(self, model: Model | None) -> None:
        if model is not None:
            await self._forget(model)
