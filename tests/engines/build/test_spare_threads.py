"""How many threads of `ik` decode, on a machine whose time and load the test decides: `spare_threads.cpp`."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from serow.engines.build import ik_edits

DEADLINE = 60.0  # seconds
COMPILER = shutil.which("c++")

Threads = Callable[..., list[list[int]]]


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Threads:
    """How many decode at the end of each of ten seconds, on so many cores, beside each number of busy processes in turn."""
    if COMPILER is None:
        pytest.skip("needs a C++ compiler")
    program = tmp_path_factory.mktemp("spare_threads") / "decodes"
    include = Path(ik_edits.__file__).parent
    source = Path(__file__).with_name("spare_threads.cpp")
    subprocess.run([COMPILER, "-std=c++17", "-Werror", "-Wall", f"-I{include}", source, "-o", program], check=True)

    def run(num_cores: int, *num_busy: int) -> list[list[int]]:
        command = [str(program), *map(str, (num_cores, *num_busy))]
        out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE).stdout
        return [[int(word) for word in line.split()] for line in out.splitlines()]

    return run


def test_alone_all_decode_and_none_is_tried_without(threads: Threads) -> None:
    assert threads(2, 0, 0) == [[2] * 10] * 2 and threads(8, 0) == [[8] * 10]


def test_beside_a_busy_process_one_fewer_decodes_until_it_is_gone(threads: Threads) -> None:
    _, beside, after = threads(2, 0, 1, 0)
    assert beside.count(1) >= 9, "two are tried again, and seldom"
    assert after[-5:] == [2] * 5


def test_beside_many_the_threads_share_the_cores_that_are_left(threads: Threads) -> None:
    _, beside, settled, after = threads(8, 0, 4, 4, 0)
    assert min(beside) <= 4 and settled.count(4) >= 7
    assert after[-5:] == [8] * 5


def test_where_fewer_are_not_faster_all_decode(threads: Threads) -> None:
    (beside,) = threads(2, 2)
    assert beside.count(2) >= 8
