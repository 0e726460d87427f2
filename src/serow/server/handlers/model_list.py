"""GET /v1/models and /v1/models/{model}, in OpenAI's shape, or in Anthropic's for its clients."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from serow.errors import InvalidModelName, ModelNotFound
from serow.server.context import context
from serow.server.exchange import current
from serow.server.responses import json_response
from serow.store.model import Model
from serow.wire.model_list import Listed, anthropic_list, anthropic_model, openai_list, openai_model


async def list_models(request: Request) -> Response:
    """Every model of the store, the newest first; Anthropic's clients page through them."""
    models = [_listed(model) for model in await asyncio.to_thread(context(request).store.list)]
    if not current().has_anthropic_version:
        return json_response(openai_list(models))
    query = request.query_params
    page = anthropic_list(models, query.get("limit", ""), query.get("after_id", ""), query.get("before_id", ""))
    return json_response(page)


async def get_model(request: Request) -> Response:
    """One model, by the name that was asked for."""
    name = request.path_params["model"]
    try:
        model = await context(request).store.find(name)
    except InvalidModelName:
        raise ModelNotFound(name) from None
    listed = _listed(model, name)
    return json_response(anthropic_model(listed) if current().has_anthropic_version else openai_model(listed))


def _listed(model: Model, name: str = "") -> Listed:
    return Listed(
        id=name or model.name.display_shortest,
        owner=model.name.namespace,
        modified_at=model.modified_at,
        context_length=model.declared_context_length or model.context_length,
        capabilities=model.capabilities,
    )
