import pytest

from serow.options import LoadOptions
from serow.scheduler.queue import Waiter, WaitQueue
from serow.scheduler.resident import Demand, key_of
from tests.scheduler.machine import model


def queue_of(*tickets: str) -> WaitQueue:
    """Each ticket is a model's letter and a client's digit."""
    queue = WaitQueue()
    for ticket in tickets:
        queue.push(Waiter(Demand(model(ticket[0]), LoadOptions()), None, ticket[1:]))
    return queue


def turns(queue: WaitQueue, name: str = "a") -> list[str]:
    order = []
    while waiter := queue.head(key_of(model(name))):
        queue.pop(waiter)
        order.append(f"{waiter.client}#{waiter.number}")
    return order


@pytest.mark.req("LIFE-02")
@pytest.mark.parametrize(
    ("tickets", "order"),
    [
        (["a", "a", "a"], ["#1", "#2", "#3"]),
        (["a1", "a1", "a1", "a2", "a3"], ["1#1", "2#4", "3#5", "1#2", "1#3"]),
        (["a1", "b1", "a1"], ["1#1", "1#3"]),
    ],
    ids=["one client: in order of arrival", "several clients take turns", "another model's line is its own"],
)
def test_turns(tickets: list[str], order: list[str]) -> None:
    assert turns(queue_of(*tickets)) == order


def test_who_leaves_costs_nobody_a_turn() -> None:
    queue = queue_of("a1", "a1", "a2")
    head = queue.head(key_of(model("a")))
    assert head is not None
    queue.remove(head)
    assert turns(queue) == ["1#2", "2#3"]
    assert len(queue) == 0


def test_models_come_in_the_order_of_their_longest_waiting_request() -> None:
    queue = queue_of("a1", "b1", "a1", "c1")
    head = queue.head(key_of(model("a")))
    assert head is not None
    queue.pop(head)
    assert queue.models() == [key_of(model("b")), key_of(model("a")), key_of(model("c"))]


def test_clear_takes_out_everybody() -> None:
    queue = queue_of("a1", "a2", "b1")
    assert len(queue.clear()) == 3
    assert queue.models() == []
