import mmap
import os
import sys
from pathlib import Path

import psutil
import pytest

from serow.scheduler.devices import Devices
from tests.scheduler.machine import MIB

STAT = f"anon {30 * MIB}\nactive_file {MIB}\ninactive_file {2 * MIB}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system whose process runs in the cgroup /app/serow."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/app/serow\n")
    (tmp_path / "sys/fs/cgroup/app/serow").mkdir(parents=True)
    return tmp_path


def limit(root: Path, group: str, memory_max: str) -> None:
    directory = root / "sys/fs/cgroup" / group
    for name, text in {"memory.max": memory_max, "memory.current": str(40 * MIB), "memory.stat": STAT}.items():
        (directory / name).write_text(f"{text}\n")


@pytest.mark.parametrize("group", ["app/serow", "app"])
def test_free_memory_is_what_a_container_has_left_cached_files_included(root: Path, group: str) -> None:
    limit(root, group, str(50 * MIB))
    assert Devices(root).free_memory() == 13 * MIB


def test_free_memory_is_what_a_container_of_the_first_version_has_left(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("5:cpu,memory:/docker/abc\n1:name=systemd:/\n")
    top = root / "sys/fs/cgroup/memory"  # all that the container sees
    top.mkdir()
    stat = f"total_active_file {MIB}\ntotal_inactive_file {2 * MIB}"
    files = {"memory.limit_in_bytes": str(50 * MIB), "memory.usage_in_bytes": str(40 * MIB), "memory.stat": stat}
    for name, text in files.items():
        (top / name).write_text(f"{text}\n")
    assert Devices(root).free_memory() == 13 * MIB
    (top / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert Devices(root).free_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.1)


def test_free_memory_is_the_machines_without_a_limit(root: Path) -> None:
    limit(root, "app/serow", "max")
    assert Devices(root).free_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.1)


def test_a_container_above_its_limit_has_nothing_left(root: Path) -> None:
    limit(root, "app", str(10 * MIB))
    assert Devices(root).free_memory() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no private anonymous maps")
def test_private_memory_counts_what_a_process_holds() -> None:
    before = Devices().private_memory(os.getpid())
    with mmap.mmap(-1, 32 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:  # the heap may have had room already
        held.write(b"x" * len(held))
        assert Devices().private_memory(os.getpid()) - before == pytest.approx(len(held), rel=0.5)


def test_a_process_that_is_gone_holds_nothing() -> None:
    assert Devices().private_memory(2**31 - 1) == 0
