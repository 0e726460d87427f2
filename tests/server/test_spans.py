"""Traces, where the extra serow[otel] is installed."""

from typing import Any

import pytest

from serow.server.exchange import Exchange
from serow.server.tracing import open_traces
from serow.settings import Settings

pytest.importorskip("opentelemetry.sdk", reason="needs the extra serow[otel]")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serow.server.spans import Traces

SECOND = 10**9
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def recorded(exchange: Exchange) -> dict[str, Any]:
    """The spans of an exchange by name."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    Traces(provider).record(exchange)
    return {span.name: span for span in exporter.get_finished_spans()}


def exchange(**marks: int) -> Exchange:
    """One of ten seconds, whose timeline has `marks` in seconds after its start."""
    found = Exchange("r1", "POST", "/api/generate", "", CALLER, "/api/generate", 200, 10 * SECOND)
    for name, seconds in marks.items():
        setattr(found.timeline, name, found.timeline.started + seconds * SECOND)
    return found


def seconds(span: Any) -> float:
    return float((span.end_time - span.start_time) / SECOND)


def test_each_phase_is_a_span_below_the_one_of_the_request() -> None:
    spans = recorded(exchange(asked_at=1, placed_at=2, loaded_at=4, first_token_at=7, last_token_at=9))
    root = spans.pop("POST /api/generate")
    assert {name: seconds(span) for name, span in spans.items()} == {"queue": 1, "load": 2, "prompt": 3, "decode": 2}
    assert all(span.parent.span_id == root.context.span_id for span in spans.values())
    assert (seconds(root), root.attributes["http.response.status_code"]) == (10, 200)


def test_a_request_that_ended_in_the_queue_has_no_later_phase() -> None:
    spans = recorded(exchange(asked_at=1))
    assert spans.keys() == {"POST /api/generate", "queue"}
    assert seconds(spans["queue"]) == 9


def test_a_request_stands_below_the_span_of_its_caller() -> None:
    root = recorded(exchange())["POST /api/generate"]
    assert f"{root.parent.trace_id:032x}-{root.parent.span_id:016x}" in CALLER


def test_nothing_is_traced_unless_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert open_traces(Settings()) is None
    traces = open_traces(Settings(otel=True))
    assert traces is not None
    traces.close()
