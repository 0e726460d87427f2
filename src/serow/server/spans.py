"""Spans of a request for OpenTelemetry: made when it is over, from its timeline, so that a token costs nothing.

Imported only where the extra `serow[otel]` is installed and asked for.
"""

import os
import time
from collections.abc import Iterator

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serow import __version__
from serow.inference.timeline import Timeline
from serow.server.exchange import Exchange


def exporting_provider() -> TracerProvider:
    """Sends spans as the OTEL_… variables say, from a thread of its own."""
    names = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "serow"), "service.version": __version__}
    provider = TracerProvider(resource=Resource.create(names))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Traces:
    """A span for each request, below the caller's where it names one, and one for each of its phases."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("serow", __version__)

    def record(self, exchange: Exchange) -> None:
        """Tell of an exchange that is over."""
        offset = time.time_ns() - time.perf_counter_ns()
        start, end = (offset + moment for moment in (exchange.timeline.started, exchange.timeline.started + exchange.duration))
        span = self._tracer.start_span(
            f"{exchange.method} {exchange.route}",
            context=TraceContextTextMapPropagator().extract({"traceparent": exchange.traceparent}),
            kind=SpanKind.SERVER,
            start_time=start,
        )
        _describe(span, exchange)
        for name, begin, finish in phases(exchange.timeline):
            phase = self._tracer.start_span(name, context=set_span_in_context(span), start_time=offset + begin)
            phase.end(offset + finish if finish else end)
        span.end(end)

    def close(self) -> None:
        """Send what is left. Blocks."""
        self._provider.shutdown()


def phases(timeline: Timeline) -> Iterator[tuple[str, int, int]]:
    """Name, begin and end of each phase that was reached; an end of 0: the request ended in it."""
    marks = (timeline.asked_at, timeline.placed_at, timeline.loaded_at, timeline.first_token_at, timeline.last_token_at)
    for name, begin, end in zip(("queue", "load", "prompt", "decode"), marks, marks[1:], strict=False):
        if begin:
            yield name, begin, end


def _describe(span: Span, exchange: Exchange) -> None:
    """Names are OpenTelemetry's own, where it has them."""
    span.set_attributes(
        {
            "http.request.method": exchange.method,
            "http.route": exchange.route,
            "http.response.status_code": exchange.status,
            "serow.request_id": exchange.id,
        }
    )
    if exchange.timeline.model:
        span.set_attributes(
            {
                "gen_ai.request.model": exchange.timeline.model,
                "gen_ai.usage.input_tokens": exchange.timeline.prompt_eval_count,
                "gen_ai.usage.output_tokens": exchange.timeline.eval_count,
            }
        )
    if exchange.status >= 500:
        span.set_status(StatusCode.ERROR)
