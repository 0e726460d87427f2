"""What the page tells of the past."""

import time

import pytest

from serow.errors import EngineDied
from serow.server.exchange import Exchange
from serow.server.page import recent
from serow.server.page.recent import Recent


def exchange(status: int = 200, num_tokens: int = 0, seconds: float = 0.0, ago: float = 0.0, client: str = "a") -> Exchange:
    made = Exchange(f"id-{client}", "POST", "/api/chat", client, route="/api/chat", status=status)
    end = time.perf_counter_ns() - int(ago * 1e9)
    made.timeline.first_token_at, made.timeline.last_token_at = end - int(seconds * 1e9), end
    made.timeline.eval_count = num_tokens
    if status >= 500:
        made.error = EngineDied("the engine ended with signal 9")
    return made


def test_an_error_is_told_with_the_id_that_finds_it_in_the_log() -> None:
    kept = Recent()
    kept.observe(exchange(500))
    (failure,) = kept.errors()
    assert (failure.status, failure.route, failure.error, failure.id) == (
        500,
        "/api/chat",
        "the engine ended with signal 9",
        "id-a",
    )


@pytest.mark.parametrize(("status", "words"), [(404, "not found"), (405, "method not allowed"), (403, "forbidden")])
def test_what_is_refused_without_a_sentence_is_no_fault_of_ours(status: int, words: str) -> None:
    kept = Recent()
    kept.observe(exchange(status))
    assert [failure.error for failure in kept.errors()] == [words]


def test_a_client_that_left_and_an_answer_are_no_errors() -> None:
    kept = Recent()
    kept.observe(exchange(499))
    kept.observe(exchange(200))
    assert kept.errors() == []


def test_a_client_sees_its_own_errors_only() -> None:
    kept = Recent()
    kept.observe(exchange(500, client="a"))
    kept.observe(exchange(500, client="b"))
    assert [each.id for each in kept.errors("b")] == ["id-b"]
    assert len(kept.errors()) == 2


def test_an_error_is_forgotten_after_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Recent()
    kept.observe(exchange(500))
    later = time.time() + recent.ERROR_AGE + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert kept.errors() == []


def test_the_points_of_the_chart_hold_all_tokens_of_an_answer() -> None:
    kept = Recent()
    kept.observe(exchange(num_tokens=100, seconds=12, ago=30))
    rates = kept.rates()
    assert len(rates) == 120
    assert sum(rates) * recent.STEP == pytest.approx(100, abs=2)
    assert sum(1 for rate in rates if rate) in (3, 4)


def test_what_is_older_than_the_chart_is_left_out() -> None:
    kept = Recent()
    kept.observe(exchange(num_tokens=100, seconds=1, ago=700))
    assert set(kept.rates()) == {0.0}


def test_errors_are_bounded_in_number() -> None:
    kept = Recent()
    for _ in range(1000):
        kept.observe(exchange(400))
    assert len(kept.errors()) == 200
