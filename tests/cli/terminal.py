"""A program at a pseudo terminal, driven by what it prints."""

import os
import pty
import select
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

_CURSOR_QUERY, _CURSOR_ANSWER = b"\x1b[6n", b"\x1b[1;1R"


class Terminal:
    """`with Terminal(argv) as terminal: terminal.expect(text); terminal.send(text)`; every wait has a deadline in seconds."""

    def __init__(self, argv: Sequence[str], deadline: float = 60.0) -> None:
        self._argv = argv
        self._deadline = deadline
        self._seen = b""
        self._pid = 0
        self._fd = -1

    def __enter__(self) -> Self:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.execvpe(
                self._argv[0], list(self._argv), {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
            )
        return self

    def expect(self, text: str) -> str:
        """Wait for a text after what was expected before; returns what came until its end."""
        wanted, end = text.encode(), time.monotonic() + self._deadline
        while wanted not in self._seen:
            if not self._read(end):
                raise AssertionError(f"{text!r} did not come, only {self._seen.decode(errors='replace')!r}")
        before, _, self._seen = self._seen.partition(wanted)
        return before.decode(errors="replace") + text

    def send(self, text: str) -> None:
        """Type a text."""
        os.write(self._fd, text.encode())

    def wait(self) -> int:
        """Read until the program ends; returns its exit status."""
        end = time.monotonic() + self._deadline
        while self._read(end):
            continue
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return os.waitstatus_to_exitcode(status)

    def read_all(self) -> str:
        """Everything until the program ends."""
        self.wait()
        return self._seen.decode()

    def _read(self, end: float) -> bool:
        """Take in what the program prints; False when it has ended or time is up."""
        if not select.select([self._fd], [], [], max(0.0, end - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the other side is closed
            return False
        if _CURSOR_QUERY in data:
            os.write(self._fd, _CURSOR_ANSWER)
        self._seen += data
        return bool(data)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pid:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
        os.close(self._fd)
