"""One worker process as we hold it: started when it is first called, ended by force, never reused after that."""

import pickle
import signal
import subprocess
import sys
from threading import Lock

from serow.system.limits import clean_environment, lower_priority, measure
from serow.workers.frames import HEAD, LENGTH, Call, Kind

_MODULE = "serow.workers.child"
_NICE = 15  # four of them on two cores take less than a tenth from who has these cores for himself
_MOST_REPLIED = 1 << 30  # bytes
_TOO_SLOW = -signal.SIGPROF if sys.platform != "win32" else None


class Ended(Exception):
    """The process ended before it replied; `reason` completes "it …"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Worker:
    """Call it from one thread at a time; `end` and `lower_priority` from any."""

    def __init__(self, *, is_slow: bool = False) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._changing = Lock()
        self._reason = ""  # why we ended it
        self.imported: set[str] = set()  # modules of calls that it has replied to
        self.is_spent = False  # it has grown: replace it
        self.is_slow = is_slow  # it has only what others leave
        self._is_lowered = False
        self.seconds = 0.0  # of CPU time of its last call, as far as they are known

    @property
    def pid(self) -> int:
        """Process id, 0 before the first call."""
        return self._process.pid if self._process else 0

    @property
    def is_usable(self) -> bool:
        """Whether it may be called again."""
        return not self.is_spent and not self._reason and self._process is not None and self._process.poll() is None

    def call(self, call: Call) -> tuple[Kind, bytes]:
        """Blocks until the process replies; raises Ended."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            payload = pickle.dumps(call, pickle.HIGHEST_PROTOCOL)
            process.stdin.write(LENGTH.pack(len(payload)))
            process.stdin.write(payload)
            process.stdin.flush()
            head = process.stdout.read(HEAD.size)
            if len(head) == HEAD.size:
                kind, has_grown, self.seconds, size = HEAD.unpack(head)
                self.is_spent |= has_grown or kind == Kind.MEMORY
                payload = process.stdout.read(min(size, _MOST_REPLIED))
                if len(payload) == size:
                    return Kind(kind), payload
        except BrokenPipeError:
            pass
        raise Ended(self._why(process))

    def end(self, reason: str = "was given up") -> None:
        """Kill the process, whatever it does; a call in another thread returns at once."""
        with self._changing:
            self._reason = self._reason or reason
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End it and take the system's record of it away. Blocks while the system frees its memory."""
        self.end()
        if self._process is not None:
            with self._process:
                pass

    def lower_priority(self) -> None:
        """From now on it uses what others leave. To be said again while it works: the system may not do it at once."""
        self.is_slow = True
        if self._process is not None and not self._is_lowered:
            self._is_lowered = lower_priority(self._process.pid, _NICE)

    def used(self) -> tuple[float, int]:
        """Seconds of CPU time of all its calls, and bytes of memory."""
        return measure(self.pid) if self.pid else (0.0, 0)

    def _started(self) -> "subprocess.Popen[bytes]":
        with self._changing:
            if self._reason:
                raise Ended(self._reason)
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", _MODULE],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=clean_environment(),
                    start_new_session=True,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
            return self._process

    def _why(self, process: "subprocess.Popen[bytes]") -> str:
        returncode = process.wait()
        if self._reason:
            return self._reason
        if returncode == _TOO_SLOW:
            return "took too much time"
        return f"broke the process that worked on it ({'signal' if returncode < 0 else 'status'} {abs(returncode)})"
