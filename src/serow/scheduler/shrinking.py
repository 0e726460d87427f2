"""What is tried when a model did not fit as it was planned: once, and never in silence."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from serow.engines.base import LoadRequest
from serow.engines.llamacpp.spec import whole_blocks
from serow.errors import DeviceGone, NotEnoughMemory
from serow.scheduler.fitting import Room, as_many
from serow.scheduler.need import Need

_KEPT = 4  # of so many layers one stays away at least
_LEAST_CONTEXT = 512  # tokens


def smaller(request: LoadRequest, need: Need, rooms: Sequence[Room], *, is_automatic: bool) -> LoadRequest | None:
    """The next smaller way to load a model, None where there is none.

    1. Fewer layers on devices, as many as fit by now, and at least a quarter fewer than before.
    2. Nothing is on devices: half of an automatic context, never of one that the request has named.
    """
    layers = sum(use.layers for use in request.uses)
    if layers and not request.model.is_vllm:  # which is on one device, or not at all
        uses = as_many(need, rooms, layers - max(1, layers // _KEPT))
        main = need.main(sum(use.layers for use in uses)) + request.prompt_cache
        return replace(request, uses=uses, memory=main)  # 1
    half = whole_blocks(request.options.num_ctx // 2)
    if is_automatic and _LEAST_CONTEXT <= half < request.options.num_ctx:
        return replace(request, options=msgspec.structs.replace(request.options, num_ctx=half))  # 2
    return None


def shrunk(before: LoadRequest, after: LoadRequest, error: NotEnoughMemory) -> str:
    """What it came to, in words."""
    name = before.model.name.display_shortest
    if before.uses:
        tried, got = (sum(use.layers for use in request.uses) for request in (before, after))
        where = f"{got} of {after.num_layers} layers" if got else "none of its layers"
        if isinstance(error, DeviceGone):
            return f"{name} was planned with {tried} layers on devices, one of which is gone: it runs with {where} there"
        return f"{name} did not fit with {tried} layers on devices as planned: it runs with {where} there"
    return f"{name} did not fit with a context of {before.options.num_ctx} tokens: it has {after.options.num_ctx}"
