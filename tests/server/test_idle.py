"""A server that nobody uses ends; one that somebody uses does not."""

import math

from serow.server.idle import Idle


def test_it_is_over_when_there_was_no_work_for_the_whole_time() -> None:
    now = 0.0
    idle = Idle(10, lambda: now)
    seen = []
    for moment, is_busy in ((5.0, False), (9.0, True), (18.0, False), (19.0, False)):
        now = moment
        seen.append(idle.is_over(is_busy=is_busy))
    assert seen == [False, False, False, True]


def test_without_a_timeout_it_is_never_over() -> None:
    assert not Idle(math.inf).is_possible
