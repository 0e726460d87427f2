"""What tells that a server is there, which one, and how it fares."""

from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from serow import API_LEVEL, __version__
from serow.server.context import context
from serow.server.responses import json_response

_PATIENCE = 1.0  # seconds that a scrape waits for a measurement of the devices; the last one serves too


async def version(_: Request) -> Response:
    """The level of Ollama's API that is spoken, which clients compare, and our own version (RES-06)."""
    return json_response({"version": API_LEVEL, "serow": __version__})


async def metrics(request: Request) -> Response:
    """Everything that is counted, and what is now, as Prometheus reads it."""
    inventory = context(request).inventory
    if inventory.may_have_devices:
        await inventory.refresh(_PATIENCE)
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(context(request).metrics.registry), headers={"Content-Type": content_type})
