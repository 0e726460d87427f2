import pytest

from serow.workers.share import CREDIT, RATE, Account, Shares

A, B = ("a", "work"), ("b", "work")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_work_has_credit_that_comes_back_with_time() -> None:
    clock = Clock()
    shares = Shares(clock)
    shares.charge(A, CREDIT - 0.5)
    assert (shares.credit(A), shares.wait(A)) == (0.5, 0)
    shares.charge(A, 1.5)
    assert (shares.credit(A), shares.wait(A)) == (-1, 1 / RATE) and shares.credit(B) == CREDIT
    clock.now += 1.5 / RATE
    assert shares.credit(A) == 0.5
    clock.now += 1000 / RATE
    shares.charge(A, CREDIT)
    assert shares.credit(A) == 0


def test_only_so_many_are_remembered() -> None:
    shares = Shares(Clock())
    for number in range(5000):
        shares.charge(("a", str(number)), 2 * CREDIT)
    assert shares.credit(("a", "0")) == CREDIT and shares.credit(("a", "4999")) == -CREDIT
    assert len(shares._used) == 1024


def test_the_server_s_own_work_is_not_behind_for_what_it_did_before() -> None:
    shares = Shares(Clock())
    shares.charge(("", "work"), 10 * CREDIT)
    assert shares.credit(("", "work")) == CREDIT


def test_calls_of_one_client_that_run_together_have_one_credit() -> None:
    shares = Shares(Clock())
    first, second, another = (Account(shares, work) for work in (A, A, B))
    first.pay(0.6 * CREDIT)
    assert not first.is_empty and not second.is_empty
    second.pay(0.6 * CREDIT)
    assert first.is_empty and second.is_empty and not another.is_empty
    second.pay(0.5 * CREDIT)
    assert shares.credit(A) == pytest.approx(-0.2 * CREDIT), "nothing is paid twice"


def test_a_long_call_of_the_server_itself_lets_others_go_first_and_the_next_one_does_not() -> None:
    shares = Shares(Clock())
    call = Account(shares, ("", "work"))
    call.pay(CREDIT)
    assert call.is_empty and not Account(shares, ("", "work")).is_empty
