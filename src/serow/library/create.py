"""`create`: a draft that was checked, its weights quantized where that was asked for, and the manifest written last."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from serow.engines.diffusers import installed
from serow.library.conversion.work import convert, merge, quantize
from serow.library.progress import Record
from serow.store.create import Draft, Recipe
from serow.store.manifest import DRAFT, WEIGHTS
from serow.store.name import Name
from serow.store.store import Store
from serow.system.work import in_thread


async def create(store: Store, name: Name, recipe: Recipe, warnings: list[str]) -> AsyncGenerator[Record, None]:
    """Make a model; yields records without the last, "success", and adds to `warnings`.

    Raises as Store.draft does, EngineError for the quantizer.

    What the recipe names is held from before it is read, so that no deletion meanwhile takes it away.
    """
    digests = await in_thread(store.hold_recipe, recipe)
    made: list[str] = []
    try:
        draft = await in_thread(_draft, store, recipe)
        warnings += draft.warnings
        for status in draft.parsing:
            yield {"status": status}
        for work in _conversions(store, recipe, draft, made):
            async with aclosing(work) as records:
                async for record in records:
                    yield record
        async with aclosing(_finish(store, name, draft)) as records:
            async for record in records:
                yield record
    finally:
        await in_thread(lambda: store.release([*digests, *made], drop=made))


def _draft(store: Store, recipe: Recipe) -> Draft:
    """What a recipe makes; raises ModelFileError also for an image model that the installed packages can't load."""
    draft = store.draft(recipe)
    if draft.picture_hints is not None:
        installed.check(draft.picture_hints)
    return draft


def _conversions(store: Store, recipe: Recipe, draft: Draft, made: list[str]) -> Iterator[AsyncGenerator[Record, None]]:
    """What is made of the files before the manifest is written."""
    if draft.conversion:
        yield convert(store, draft, made)
    if recipe.merge and len(draft.parts) > 1:
        yield merge(store, draft, made)
    for media_type, wanted in ((WEIGHTS, recipe.quantize), (DRAFT, recipe.draft_quantize)):
        if wanted:
            yield quantize(store, draft, media_type, wanted.upper(), made)


async def _finish(store: Store, name: Name, draft: Draft) -> AsyncGenerator[Record, None]:
    """Take the steps outside the event loop; who leaves in the middle leaves nothing."""
    steps = store.finish(name, draft)
    try:
        while (status := await in_thread(next, steps, None)) is not None:
            yield {"status": status}
    finally:
        await in_thread(steps.close)
