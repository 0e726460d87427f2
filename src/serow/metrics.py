"""The numbers of a server for Prometheus, declared once.

What happens is counted when a request is over; what is, is read from the scheduler when somebody asks. Labels are bounded:
routes of ours, models of the store, never what a client made up.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serow import __version__
from serow.inference.timeline import BOUNDS, Timeline
from serow.scheduler.loaded import LoadedModel
from serow.scheduler.scheduler import Scheduler

_REQUEST_BOUNDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)  # seconds
_WAIT_BOUNDS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)

_STALL_BOUNDS = (0.5, 1, 2, 5, 10, 30)

_GAUGES: tuple[tuple[str, str, Callable[[LoadedModel], float]], ...] = (
    ("serow_model_memory_bytes", "Memory that the engine of a loaded model holds.", lambda loaded: loaded.size),
    ("serow_model_layers", "Layers of a loaded model.", lambda loaded: loaded.request.num_layers or loaded.model.layers.count),
    (
        "serow_model_offloaded_layers",
        "Of these, how many lie on devices.",
        lambda loaded: sum(use.layers for use in loaded.uses),
    ),
    ("serow_model_places", "Requests that a loaded model can run together.", lambda loaded: loaded.request.num_parallel),
    ("serow_model_running", "Requests that have a place in a loaded model.", lambda loaded: loaded.num_running),
    ("serow_model_waiting", "Requests that wait for a place in a loaded model.", lambda loaded: loaded.num_waiting),
)


class Metrics:
    """One server's numbers; `registry` is what a scrape reads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "serow_requests",
            "Requests by route and status; 499: the client left, 500: also a stream that ended with an error.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._durations = self._histogram(
            "serow_request_seconds", "From a request to the end of its answer.", _REQUEST_BOUNDS, ("route",)
        )
        self._waits = self._histogram("serow_queue_seconds", "How long a request waited for its place.", _WAIT_BOUNDS)
        self._first_tokens = self._histogram(
            "serow_first_token_seconds", "From a request to its first token, queue and load included.", _WAIT_BOUNDS
        )
        self._tokens = Counter(
            "serow_tokens",
            "Tokens by kind: prompt (cached ones included), cached, generated; drafted by the engine, accepted of these.",
            ("model", "kind"),
            registry=self.registry,
        )
        self._stalls = self._histogram(
            "serow_loop_stall_seconds", "How long the event loop was held, from 250 ms on.", _STALL_BOUNDS
        )
        self._gaps = Gaps()
        self.registry.register(self._gaps)

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...], labels: tuple[str, ...] = ()) -> Histogram:
        return Histogram(name, text, labels, buckets=bounds, registry=self.registry)

    def follow(self, scheduler: Scheduler) -> None:
        """Tell what the scheduler knows, too."""
        self.registry.register(Engines(scheduler))

    def observe_stall(self, seconds: float) -> None:
        """Count a time in which nobody was answered."""
        self._stalls.observe(seconds)

    def observe(self, method: str, route: str, status: int, seconds: float, timeline: Timeline) -> None:
        """Count one request that is over."""
        self._requests.labels(method, route, status).inc()
        self._durations.labels(route).observe(seconds)
        if timeline.placed_at:
            self._waits.observe((timeline.placed_at - timeline.asked_at) / 1e9)
        if timeline.first_token_at:
            self._first_tokens.observe((timeline.first_token_at - timeline.started) / 1e9)
        for kind, count in (
            ("prompt", timeline.prompt_eval_count),
            ("cached", timeline.prompt_cached_count),
            ("generated", timeline.eval_count),
            ("drafted", timeline.draft_count),
            ("accepted", timeline.draft_accepted_count),
        ):
            if count:
                self._tokens.labels(timeline.model, kind).inc(count)
        self._gaps.add(timeline)


class Gaps(Collector):
    """Time between two tokens. Observed by the request, since each token must cost next to nothing."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._duration = 0  # ns

    def add(self, timeline: Timeline) -> None:
        """Add the gaps of one answer."""
        self._counts = [count + more for count, more in zip(self._counts, timeline.gaps, strict=True)]
        self._duration += timeline.gaps_duration

    def collect(self) -> Iterator[Metric]:
        """As Prometheus wants it: each bucket holds all below it."""
        bounds = (*map(str, BOUNDS), "+Inf")
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(
            "serow_between_tokens_seconds", "Time between two tokens of an answer.", buckets, self._duration / 1e9
        )


class Engines(Collector):
    """What the scheduler knows, at the moment somebody asks."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def collect(self) -> Iterator[Metric]:
        """Gauges of what is, counters of what has been."""
        yield GaugeMetricFamily("serow_queue_length", "Requests that wait, in the whole server.", self._scheduler.num_waiting)
        loaded = self._scheduler.loaded()
        for name, text, value in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=("model",))
            for each in loaded:
                gauge.add_metric((each.model.name.display_shortest,), value(each))
            yield gauge
        yield from self._devices()
        yield from self._counters()
        info = GaugeMetricFamily("serow_info", "Always 1; the label tells the version.", labels=("version",))
        info.add_metric((__version__,), 1)
        yield info

    def _devices(self) -> Iterator[Metric]:
        total = GaugeMetricFamily("serow_device_memory_bytes", "Memory of a device.", labels=("device",))
        free = GaugeMetricFamily("serow_device_free_bytes", "Memory of a device that is free.", labels=("device",))
        held = GaugeMetricFamily(
            "serow_device_model_bytes", "Memory of a device that a model holds.", labels=("device", "model")
        )
        for device in self._scheduler.devices:
            total.add_metric((device.id,), device.total)
            free.add_metric((device.id,), device.free)
        for loaded in self._scheduler.loaded():
            for use in loaded.uses:
                held.add_metric((use.id, loaded.model.name.display_shortest), use.size)
        yield from (total, free, held)

    def _counters(self) -> Iterator[Metric]:
        counts = self._scheduler.counts
        yield _by_model("serow_loads", "Models loaded.", counts.loads)
        yield _by_model("serow_load_failures", "Models that could not be loaded.", counts.load_failures)
        yield _by_model("serow_load_seconds", "Time that loads took, together.", counts.load_seconds)
        yield _by_model("serow_evictions", "Models that left to make room for another.", counts.evictions)
        yield _by_model(
            "serow_engine_deaths", "Engines that ended by themselves or hung; the next request starts another.", counts.deaths
        )


def _by_model(name: str, text: str, values: Mapping[str, float]) -> CounterMetricFamily:
    counter = CounterMetricFamily(name, text, labels=("model",))
    for model, value in values.items():
        counter.add_metric((model,), value)
    return counter
