"""POST /api/generate: bytes in, records out."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serow.api.codec import decode_generate
from serow.server import limits
from serow.server.body import decoded
from serow.server.exchange import current
from serow.server.responses import RecordsResponse


async def generate(request: Request) -> Response:
    """Text, pictures, load and unload: one endpoint."""
    state = request.app.state
    wanted = await decoded(request, decode_generate)
    exchange = current()
    exchange.model, exchange.prompt = wanted.model, wanted.prompt
    limits.check(wanted, state.settings)
    records = state.generation.generate(wanted, request.state.client, exchange.timeline)
    return RecordsResponse(records, stream=wanted.stream)


routes = [Route("/api/generate", generate, methods=["POST"])]
