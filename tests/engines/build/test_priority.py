"""What comes last takes only what others leave, and drags nobody else down with it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sessions share the cores on Linux")
PROGRAM = """
import os, pathlib
from serow.system.limits import come_last, is_last
group = pathlib.Path("/proc/self/autogroup")
before = is_last()
come_last()
print(before, is_last(), os.getpriority(os.PRIO_PROCESS, 0), group.read_text().split()[-1] if group.exists() else "19")
"""


def test_a_session_of_its_own_comes_last_as_a_whole_and_one_that_others_share_is_left_as_it_is() -> None:
    group = Path("/proc/self/autogroup")
    ours = group.read_text() if group.exists() else ""
    for is_own, nice in ((True, "19"), (False, ours.split()[-1] if ours else "19")):
        argv = [sys.executable, "-c", PROGRAM]
        ran = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60, start_new_session=is_own)
        assert ran.stdout.split() == ["False", "True", "19", nice]
    assert (group.read_text() if group.exists() else "") == ours
