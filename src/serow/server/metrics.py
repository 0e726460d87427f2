"""Exchanges as the server's numbers count them."""

from serow.metrics import Metrics
from serow.server.exchange import Exchange


def observe(metrics: Metrics, exchange: Exchange) -> None:
    """Count an exchange. A method counts by its name only where a route knows it: clients can make up others."""
    method = exchange.method if exchange.method in _METHODS else "other"
    metrics.observe(method, exchange.route, exchange.status, exchange.duration / 1e9, exchange.timeline)


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
