"""What GET /metrics tells, of a real server with a real model."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serow.engines.base import Usage
from serow.inference.timeline import BOUNDS, Timeline

Labels = frozenset[tuple[str, str]]
ASK = {"model": "zoo-think", "prompt": "hi", "stream": False, "options": {"num_predict": 8, "temperature": 0}}
OPERATIONS_PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
DEADLINE = 10  # seconds
MODEL = {"model": "zoo-think:latest"}


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client


class Scrape:
    """One look at /metrics."""

    def __init__(self, client: httpx.Client) -> None:
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        families = list(text_string_to_metric_families(answer.text))
        self.samples = {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}

    def value(self, name: str, **labels: str) -> float:
        return self.samples.get((name, frozenset(labels.items())), 0)


def after_generate(client: httpx.Client, before: Scrape) -> Scrape:
    """A look once one more request is counted: its answer arrives a moment earlier."""
    labels = {"method": "POST", "route": "/api/generate", "status": "200"}
    deadline = time.monotonic() + DEADLINE
    while (scrape := Scrape(client)).value("serow_requests_total", **labels) <= before.value("serow_requests_total", **labels):
        assert time.monotonic() < deadline
    return scrape


def test_an_answer_counts_its_request_its_tokens_and_its_time(client: httpx.Client) -> None:
    before = Scrape(client)
    answer = client.post("/api/generate", json=ASK).json()
    after = after_generate(client, before)

    def more(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert more("serow_requests_total", method="POST", route="/api/generate", status="200") == 1
    assert more("serow_tokens_total", kind="prompt", **MODEL) == answer["prompt_eval_count"]
    assert more("serow_tokens_total", kind="generated", **MODEL) == answer["eval_count"] > 1
    assert more("serow_first_token_seconds_count") == more("serow_queue_seconds_count") == 1
    assert 0 < more("serow_between_tokens_seconds_count") < answer["eval_count"]
    assert more("serow_between_tokens_seconds_bucket", le="+Inf") == more("serow_between_tokens_seconds_count")


def test_a_loaded_model_shows_its_memory_its_places_and_its_load(client: httpx.Client) -> None:
    before = Scrape(client)
    client.post("/api/generate", json=ASK)
    scrape = after_generate(client, before)
    assert scrape.value("serow_model_memory_bytes", **MODEL) > 1 << 20
    assert scrape.value("serow_model_places", **MODEL) >= 1
    assert scrape.value("serow_loads_total", **MODEL) >= 1
    assert scrape.value("serow_load_seconds_total", **MODEL) > 0
    assert (scrape.value("serow_queue_length"), scrape.value("serow_model_running", **MODEL)) == (0, 0)


def test_what_clients_make_up_becomes_no_label(client: httpx.Client) -> None:
    for _ in range(2):  # the first is counted by the time the second is answered
        client.post("/api/generate", json={"model": "made-up", "prompt": "x"})
        client.request("PROPFIND", "/made/up")
    scrape = Scrape(client)
    assert scrape.value("serow_requests_total", method="other", route="other", status="404") >= 1
    assert not any("made" in value for _, labels in scrape.samples for _, value in labels)


def test_the_process_tells_its_own_numbers(client: httpx.Client) -> None:
    scrape = Scrape(client)
    assert scrape.value("process_resident_memory_bytes") > 1 << 20
    assert scrape.value("process_open_fds") > 0


def test_operators_are_told_of_every_number_and_of_no_other(client: httpx.Client) -> None:
    section = OPERATIONS_PAGE.read_text().partition("## Numbers to watch")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall("`([a-z_]+)`", row)}
    families = text_string_to_metric_families(client.get("/metrics").text)
    assert told == {
        family.name for family in families if family.name.startswith("serow_") and not family.name.endswith("_created")
    }


def test_tokens_of_an_answer_that_breaks_off_count_and_those_of_a_second_try_add_up() -> None:
    timeline = Timeline()
    for tries in (3, 2):
        timeline.ask()
        for num_tokens in range(1, tries + 1):
            timeline.sample(num_tokens)
    assert (timeline.eval_count, sum(timeline.gaps)) == (5, 3)
    timeline.finish(Usage("stop", 10, 4, 0, 2, 0, False))
    assert (timeline.eval_count, timeline.prompt_eval_count, timeline.prompt_cached_count) == (5, 10, 4)


def test_a_token_costs_next_to_nothing() -> None:
    timeline, rounds = Timeline(), 20_000
    best = float("inf")
    for start in range(0, 5 * rounds, rounds):
        began = time.perf_counter()
        for num_tokens in range(start + 1, start + rounds + 1):
            timeline.sample(num_tokens)
        best = min(best, (time.perf_counter() - began) / rounds)
    assert sum(timeline.gaps) == 5 * rounds - 1 and len(timeline.gaps) == len(BOUNDS) + 1
    assert best < 2e-6  # seconds
