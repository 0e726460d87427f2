"""What the settings say of attention, and of the keys and values that it looks at: it holds for each engine that can do it."""

from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from serow.engines.kinds import FlagSet
from serow.settings import Settings
from serow.store.model import Model

_BYTES = {"f16": 64, "q8_0": 34, "q4_0": 18}  # of 32 numbers of a key or value, which share a scale where they are packed


def packed(size: int, flags: FlagSet) -> int:
    """What keys and values of so many bytes in 16 bits take."""
    return size * _BYTES[flags.cache_type] // _BYTES["f16"]


def settle(flags: FlagSet, settings: Settings, model: Model) -> FlagSet:
    """The flags as the settings leave them. A packed cache takes flash attention, and heads that it divides."""
    flash_attention = flags.flash_attention if settings.flash_attention is None else settings.flash_attention
    cache_type = settings.kv_cache_type or (flags.cache_type if flash_attention is not False else "f16")
    if not _packs(flags, model):
        cache_type = "f16"
    return replace(flags, flash_attention=flash_attention if cache_type == "f16" else True, cache_type=cache_type)


def settled(settings: Settings, model: Model) -> Callable[[FlagSet], FlagSet]:
    """What makes of any flags those that the settings leave of them, for a model."""
    return partial(settle, settings=settings, model=model)


def unsettled(flags: FlagSet, settings: Settings, model: Model) -> tuple[str, ...]:
    """What is said of a cache that was set and that the model does not get."""
    asked = settings.kv_cache_type
    if asked in ("", "f16", flags.cache_type):
        return ()
    why = "vLLM keeps it in 16 bits" if model.is_vllm else f"its heads can't be kept as {asked}"
    return (f"{model.name.display_shortest} has a cache of 16 bits, not the {asked} that is set: {why}",)


def _packs(flags: FlagSet, model: Model) -> bool:
    draft = model.draft if flags.draft_model else None
    return model.layers.packs_cache and (draft is None or draft.layers.packs_cache)
