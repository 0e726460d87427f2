import subprocess
import sys
from pathlib import Path

import pytest

DEADLINE = 30  # seconds
PROGRAM = """
import ctypes, sys, threading
from serow.system.limits import use_one_heap

if sys.argv[1] == "one":
    use_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
everybody = threading.Barrier(8)
threads = [threading.Thread(target=lambda: (everybody.wait(), libc.malloc(1000), everybody.wait())) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the heaps of glibc")
@pytest.mark.parametrize("told", ["one", "many"])
def test_all_threads_allocate_from_one_heap_where_they_are_told_to(tmp_path: Path, told: str) -> None:
    found = tmp_path / "heaps"
    subprocess.run([sys.executable, "-c", PROGRAM, told, str(found)], check=True, timeout=DEADLINE)
    assert (found.read_text().count("<heap ") == 1) is (told == "one")
