"""Models in memory over HTTP: what /api/ps tells of each."""

import asyncio
from typing import Any

from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response

from serow.engines.llamacpp.params import describe
from serow.engines.llamacpp.spec import batch_size, draft_sizes
from serow.engines.remote.completions import CompletionsRunner
from serow.scheduler.loaded import LoadedModel
from serow.server.context import context
from serow.server.responses import json_response
from serow.wire.models import PsModel, time_text


async def ps(request: Request) -> Response:
    """GET /api/ps: the models in memory, the longest to stay first. `?verbose=1` tells of engines and queue."""
    scheduler, max_queue = context(request).scheduler, context(request).settings.max_queue
    if request.query_params.get("verbose") not in ("1", "true"):
        return json_response({"models": [_ps_model(each) for each in scheduler.loaded()]})
    models = await asyncio.gather(*map(_verbose, scheduler.loaded()))
    return json_response({"models": models, "num_waiting": scheduler.num_waiting, "max_queue": max_queue})


def _ps_model(loaded: LoadedModel) -> PsModel:
    assert loaded.model.details is not None
    name = loaded.model.name.display_shortest
    return PsModel(
        name=name,
        model=name,
        size=loaded.size,
        digest=loaded.model.digest,
        details=loaded.model.details,
        expires_at=time_text(loaded.expires_at),
        size_vram=loaded.size_vram,
        context_length=0 if loaded.model.is_image else loaded.request.options.num_ctx,
    )


async def _engine(loaded: LoadedModel) -> dict[str, Any]:
    """What a model runs on, and the numbers that were chosen for it, or that it tells."""
    request = loaded.request
    if isinstance(loaded.runner, CompletionsRunner):
        return {"engine": request.engine.name, **await loaded.runner.health()}
    if request.model.is_image:
        return {"engine": "diffusers"}
    spec = describe(request)
    batch = batch_size(spec, has_gpu=bool(spec.has_gpu))
    return {
        "engine": spec.kind,
        "num_thread": spec.num_thread,
        "num_batch": batch,
        "flash_attention": spec.flash_attention_word,
        "num_draft": draft_sizes(spec, batch).most,
        "draft_model": bool(spec.draft),
        "cache_type": spec.cache_type,
        "repack": spec.repack,
    }


async def _verbose(loaded: LoadedModel) -> dict[str, Any]:
    numbers = {
        "num_parallel": loaded.request.num_parallel,
        "num_running": loaded.num_running,
        "num_waiting": loaded.num_waiting,
    }
    return asdict(_ps_model(loaded)) | await _engine(loaded) | numbers | _devices(loaded)


def _devices(loaded: LoadedModel) -> dict[str, Any]:
    """What devices hold of a model, as the engine has measured it."""
    held = [
        {
            "name": use.name or use.handle,
            "layers": use.layers,
            "weights": use.weights,
            "cache": use.cache,
            "compute": use.compute,
        }
        for use in loaded.uses
    ]
    num_layers = loaded.request.num_layers or loaded.model.layers.count
    return {"devices": held, "num_layers": num_layers, "num_gpu": sum(use.layers for use in loaded.uses)}
