from typing import Any

import pytest

from serow.server.stored import LIFETIME, StoredAnswers


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def response(ident: str, text: str = "x") -> dict[str, Any]:
    return {"id": ident, "previous_response_id": None, "output": [{"id": f"msg_{ident}", "role": "assistant", "content": text}]}


ASKED = [{"role": "user", "content": "Hi"}]


def keep(answers: StoredAnswers, client: str, response: dict[str, Any]) -> None:
    answers.keep(client, ASKED, response, 100)


@pytest.mark.req("RESP-07")
def test_an_answer_is_followed_with_all_that_was_said_before() -> None:
    answers = StoredAnswers()
    keep(answers, "me", response("r1"))
    memory = answers.memory("me")
    assert memory.items_of("r1") == (*ASKED, *response("r1")["output"])
    assert memory.item("msg_r1") == response("r1")["output"][0]
    assert (memory.items_of("r2"), memory.item("msg_r2")) == (None, None)


@pytest.mark.req("RESP-07")
def test_nobody_reads_or_removes_the_answers_of_another() -> None:
    answers = StoredAnswers()
    keep(answers, "key laptop", response("r1"))
    other = answers.memory("key phone")
    assert (other.items_of("r1"), other.item("msg_r1"), answers.find("key phone", "r1")) == (None, None, None)
    assert not answers.forget("key phone", "r1")
    assert answers.forget("key laptop", "r1") and not answers.forget("key laptop", "r1")


@pytest.mark.req("RESP-07")
def test_the_newest_stay_in_number_bytes_and_time() -> None:
    clock = Clock()
    answers = StoredAnswers(most=3, most_bytes=10_000, clock=clock)
    for number in range(5):
        keep(answers, "me", response(f"r{number}"))
    assert [bool(answers.find("me", f"r{number}")) for number in range(5)] == [False, False, True, True, True]
    keep(answers, "me", response("large", "x" * 9700))
    assert (len(answers), bool(answers.find("me", "large"))) == (1, True)
    keep(answers, "me", response("too large", "x" * 10_000))
    assert (len(answers), answers.find("me", "too large")) == (1, None)
    clock.now = LIFETIME + 1
    assert answers.find("me", "large") is None and len(answers) == 0


@pytest.mark.req("RESP-07")
def test_a_thousand_answers_of_a_megabyte_are_bounded_by_their_bytes() -> None:
    answers = StoredAnswers(most_bytes=20 << 20)
    for number in range(1000):
        keep(answers, "me", response(f"r{number}", "x" * (1 << 20)))
    assert 1 <= len(answers) <= 20
    assert answers.find("me", "r999") is not None
