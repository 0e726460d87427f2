import pytest

from serow.errors import LoadError
from serow.scheduler.backoff import Backoff
from serow.scheduler.resident import key_of
from tests.scheduler.machine import model

BROKEN = LoadError("the model is broken")
A = key_of(model("a"))


@pytest.mark.req("LIFE-06")
@pytest.mark.parametrize(("failures", "pause"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (20, 60)])
def test_the_pause_grows_with_failures_in_a_row(failures: int, pause: float) -> None:
    backoff = Backoff()
    for _ in range(failures):
        backoff.failed(A, BROKEN, now=100)
    assert backoff.error(A, now=100 + pause) is None
    assert pause == 0 or backoff.error(A, now=100 + pause - 0.1) is BROKEN


def test_success_begins_anew() -> None:
    backoff = Backoff()
    backoff.failed(A, BROKEN, now=0)
    backoff.succeeded(A)
    backoff.failed(A, BROKEN, now=0)
    assert backoff.error(A, now=0) is None


def test_it_remembers_a_bounded_number_of_models() -> None:
    backoff = Backoff()
    for number in range(1000):
        for _ in range(2):
            backoff.failed(key_of(model(f"m{number}")), BROKEN, now=0)
    assert sum(backoff.error(key_of(model(f"m{number}")), now=0) is not None for number in range(1000)) == 64
