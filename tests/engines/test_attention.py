"""What the settings say of the cache and of attention, for each way to start an engine."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serow.engines.attention import settle, unsettled
from serow.engines.kinds import FlagSet
from serow.settings import Settings
from serow.store.guesser import Guesser
from serow.store.layers import Layers
from serow.store.model import Model
from tests.scheduler.machine import model


def with_heads(*sizes: int, drafts: int = 64) -> Model:
    """A model whose heads have keys and values of so many numbers, and a smaller one for it."""
    draft = Guesser(Path("small"), 1, layers=Layers(head_sizes=(drafts, drafts)))
    return replace(model("a", 1), layers=Layers(head_sizes=sizes), draft=draft)


PLAIN = with_heads(64, 64)


@pytest.mark.parametrize(
    ("settings", "flags", "settled"),
    [
        ({}, FlagSet(), FlagSet()),
        ({}, FlagSet(True, cache_type="q8_0"), FlagSet(True, cache_type="q8_0")),
        ({"kv_cache_type": "q8_0"}, FlagSet(), FlagSet(True, cache_type="q8_0")),
        ({"kv_cache_type": "q4_0"}, FlagSet(False, drafts=True), FlagSet(True, drafts=True, cache_type="q4_0")),
        ({"kv_cache_type": "f16"}, FlagSet(True, repack=True, cache_type="q8_0"), FlagSet(True, repack=True)),
        ({"flash_attention": True}, FlagSet(), FlagSet(True)),
        ({"flash_attention": False}, FlagSet(True, cache_type="q8_0"), FlagSet(False)),
        ({"flash_attention": False, "kv_cache_type": "f16"}, FlagSet(), FlagSet(False)),
    ],
)
def test_settings_come_before_what_an_engine_would_be_started_with(
    settings: dict[str, Any], flags: FlagSet, settled: FlagSet
) -> None:
    assert settle(flags, Settings(**settings), PLAIN) == settled
    assert unsettled(settled, Settings(**settings), PLAIN) == ()


@pytest.mark.parametrize(
    ("sizes", "drafts", "flags"),
    [((80, 80), 64, FlagSet()), ((64, 80), 64, FlagSet()), ((64, 64), 80, FlagSet(draft_model=True))],
)
def test_heads_that_can_not_be_packed_keep_16_bits_and_that_is_told(
    sizes: tuple[int, ...], drafts: int, flags: FlagSet
) -> None:
    odd, settings = with_heads(*sizes, drafts=drafts), Settings(kv_cache_type="q8_0")
    assert settle(flags, settings, odd) == flags
    (sentence,) = unsettled(flags, settings, odd)
    assert sentence == "a:latest has a cache of 16 bits, not the q8_0 that is set: its heads can't be kept as q8_0"


def test_a_smaller_model_that_does_not_guess_keeps_nothing() -> None:
    assert settle(FlagSet(), Settings(kv_cache_type="q8_0"), with_heads(64, 64, drafts=80)).cache_type == "q8_0"
