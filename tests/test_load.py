"""What others take of the machine's CPU."""

from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from serow.system.load import OtherLoad


class Machine:
    """Two cores whose clocks a test sets; ours are this process and one child."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.own, self.child = 5.0, 1.0
        self.times = {"user": 10.0, "system": 5.0, "idle": 100.0, "iowait": 1.0, "steal": 0.0, "guest": 3.0}
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
        monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(_asdict=lambda: dict(self.times)))
        monkeypatch.setattr(psutil, "Process", lambda: self._process(1, lambda: self.own))

    def _process(self, pid: int, seconds: Any) -> Any:
        children = [self._process(2, lambda: self.child)] if pid == 1 else []
        return SimpleNamespace(pid=pid, cpu_times=lambda: (seconds(), 0.0, 9.0, 9.0), children=lambda recursive: children)

    def passes(self, seconds: float, *, ours: float, childs: float = 0.0, others: float = 0.0, steal: float = 0.0) -> None:
        self.now += seconds
        self.own, self.child = self.own + ours, self.child + childs
        self.times["user"] += ours + childs + others
        self.times["steal"] += steal
        self.times["guest"] += others


CASES = [
    (0.0, 0.0, 0.0, 0.0, 0.0),
    (4.0, 4.0, 0.0, 0.0, 0.0),  # all of it ours
    (1.0, 1.0, 4.0, 0.0, 0.5),
    (1.0, 0.0, 0.0, 2.0, 0.25),  # of a virtual machine whose host gives its core to another one
    (0.0, 0.0, 8.0, 0.0, 1.0),
]


@pytest.mark.parametrize(("ours", "childs", "others", "steal", "share"), CASES)
def test_what_others_take_is_told_as_a_share_of_all_cores(
    monkeypatch: pytest.MonkeyPatch, ours: float, childs: float, others: float, steal: float, share: float
) -> None:
    machine = Machine(monkeypatch)
    load = OtherLoad()
    machine.passes(4.0, ours=ours, childs=childs, others=others, steal=steal)
    assert load.share == pytest.approx(share)


def test_no_time_is_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch)
    assert OtherLoad().share == 0.0


def test_the_real_clocks_are_read() -> None:
    assert 0.0 <= OtherLoad().share <= 1.0
