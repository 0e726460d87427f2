"""What a process may use, and how long it lives: set by itself, enforced by the system.

Linux and macOS end a process that used up its CPU time; only Linux limits its memory. Windows has neither: there, as for
memory on macOS, whoever started the process has to look (`measure`).
"""

import contextlib
import ctypes
import os
import re
import signal
import sys
from pathlib import Path

if sys.platform != "win32":
    import resource

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_HIGHEST_SCORE, _SOONER = 1000, 300
_SCHEDSTAT = Path("/proc/thread-self/schedstat")
_STATM = Path("/proc/self/statm")
_AUTOGROUP = Path("/proc/self/autogroup")
_LOWEST = 19  # of priorities
_M_ARENA_MAX = -8  # malloc.h
HAS_CPU_LIMIT = sys.platform != "win32"
HAS_MEMORY_LIMIT = sys.platform == "linux"


def die_with_parent(number: int | None = None) -> None:
    """On Linux let the kernel signal this process when its parent ends, also while a long call keeps Python from running.

    `number` is the signal, SIGKILL if it is None.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if number is None else number)


def adopt_orphans() -> None:
    """On Linux be the parent of what descends from this process and has lost its own: it can be waited for."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_group(pid: int) -> None:
    """End a process that leads a group and, where there are such, all that it has started; also what it has left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            os.kill(pid, signal.SIGTERM)
        else:
            os.killpg(pid, signal.SIGKILL)


def forbid_core_files() -> None:
    """A process that falls leaves no image of its memory, and of what people said, on the disk."""
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid_writing() -> None:
    """No file of this process may grow; pipes and sockets are none."""
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def limit_cpu(seconds: float) -> None:
    """End this process by SIGPROF once it has used so many more seconds of CPU time; 0 takes the limit back."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)


def limit_memory(size: int) -> None:
    """Let allocations fail once this process has `size` bytes more of address space than now."""
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_statm()[0] + size, hard))


def limit_data(size: int) -> None:
    """Let allocations fail once this process, or one that it starts, claims `size` bytes of its own; 0 sets no limit.

    Mapped files, such as the weights of a model, do not count. It holds for good, and only on Linux.
    """
    if sys.platform == "linux" and size:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def leave_first() -> None:
    """When memory ends, let Linux end this process, and what it starts, before the one that started it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):
            _OOM_SCORE.write_text(str(min(_HIGHEST_SCORE, int(_OOM_SCORE.read_text()) + _SOONER)))


def unlimit_memory() -> None:
    """Take the limit back."""
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def lower_priority(pid: int, nice: int) -> bool:
    """Let a process of ours run only where others leave time; there is no way back. Whether all is done.

    Where Linux gives each session an equal share of the cores (sched_autogroup), niceness counts within a session only: the
    session of the process, which it has for itself, is made nice too. Users may do that ten times a second.
    """
    if sys.platform == "win32":
        return True
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def come_last() -> None:
    """Let this process, and its session where that is its own, run only where nothing else wants to; there is no way back."""
    if sys.platform == "win32":
        return
    os.nice(_LOWEST)
    if sys.platform == "linux":
        if os.getsid(0) == os.getpid():  # sessions share the cores as equals, whatever is nice within them
            with contextlib.suppress(OSError):
                _AUTOGROUP.write_text(str(_LOWEST))
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def is_last() -> bool:
    """Whether this process has come last."""
    return sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_IDLE


def measure(pid: int) -> tuple[float, int]:
    """Seconds of CPU time that a process has used, and bytes of memory that it holds; nothing of one that is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return times.user + times.system, process.memory_info().rss
    except psutil.Error:
        return 0.0, 0


def waited_for_cores() -> float:
    """Seconds that this thread was ready to run and others had the cores; 0 where the system does not tell."""
    try:
        return int(_SCHEDSTAT.read_bytes().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def private_memory(pid: int) -> int:
    """Bytes that a process and all that descend from it hold of their own; 0 when it is gone.

    On Linux mapped files are left out: the weights of a model lie in the page cache, which counts as free.
    """
    if sys.platform == "linux":
        return sum(map(_private, family(pid)))
    import psutil

    try:
        process = psutil.Process(pid)
        return sum(part.memory_info().rss for part in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for each in found:  # which grows
        found += _children(each)
    return found


def _children(pid: int) -> list[int]:
    """As the kernel lists them, where it does: psutil looks at every process of the machine, which takes long on a busy one."""
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        return _children_among_all(pid)
    found: list[int] = []
    with contextlib.suppress(OSError):  # a thread or the process is gone
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _children_among_all(pid: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def _private(pid: int) -> int:
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_bytes().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * resource.getpagesize()


def resident_size() -> int:
    """Bytes of memory that this process holds."""
    return _statm()[1] if sys.platform == "linux" else measure(os.getpid())[1]


def use_one_heap() -> None:
    """Let all threads allocate from one heap. glibc gives each its own, which claims address space and keeps what was freed."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_ARENA_MAX, 1)


def give_memory_back() -> None:
    """Return what was freed to the system; glibc keeps it otherwise, since somebody may want it again."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)


def _statm() -> tuple[int, int]:
    """Address space and resident memory of this process in bytes."""
    pages, resident, *_ = _STATM.read_bytes().split()
    return int(pages) * resource.getpagesize(), int(resident) * resource.getpagesize()


def clean_environment(*prefixes: str) -> dict[str, str]:
    """What a Python of ours needs to start, what begins with one of `prefixes`, and nothing of the server's secrets."""
    return {name: value for name, value in os.environ.items() if _is_clean(name.upper(), prefixes)}


def _is_clean(name: str, prefixes: tuple[str, ...]) -> bool:
    return name in _NEEDED or (name.startswith(prefixes) and not _SECRET.search(name))


_SECRET = re.compile("KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|HEADER|URL|PROXY")  # in the names of variables that may hold one
_NEEDED = frozenset({
    "APPDATA", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOCALAPPDATA", "NUMBER_OF_PROCESSORS", "PATH",
    "PATHEXT", "PYTHONHOME", "PYTHONPATH", "PYTHONUTF8", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "USERPROFILE", "VIRTUAL_ENV",
    "WINDIR", "XDG_CACHE_HOME",
})  # fmt: skip
