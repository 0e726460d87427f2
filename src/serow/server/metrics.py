"""GET /metrics: the server's numbers, as Prometheus reads them."""

from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serow.metrics import Metrics
from serow.server.exchange import Exchange


async def metrics(request: Request) -> Response:
    """Everything that is counted, and what is now."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    found: Metrics = request.app.state.metrics
    return Response(encode(found.registry), headers={"Content-Type": content_type})


def observe(metrics: Metrics, exchange: Exchange) -> None:
    """Count an exchange. A method counts by its name only where a route knows it: clients can make up others."""
    method = exchange.method if exchange.method in _METHODS else "other"
    metrics.observe(method, exchange.route, exchange.status, exchange.duration / 1e9, exchange.timeline)


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

routes = [Route("/metrics", metrics, methods=["GET"])]
