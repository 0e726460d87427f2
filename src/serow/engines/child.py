"""The child's side of `process.ChildProcess`: read the assignment, then live exactly as long as the parent does."""

import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Struct

from serow.system.limits import die_with_parent, forbid_core_files, leave_first

T = TypeVar("T")


class Listen(Struct, frozen=True):
    """Where to serve HTTP, and the bearer key to ask for. `port` is 0 when `host` is the path of a unix socket."""

    host: str
    port: int
    key: str


class Assignment(Struct, frozen=True):
    """The one JSON line on a child's stdin. `spec` is what the child's own module needs to know."""

    listen: Listen
    spec: msgspec.Raw


def adopt(kind: type[T], on_orphaned: Callable[[], object] = lambda: None, *, dies_at_once: bool = True) -> tuple[Listen, T]:
    """Read the assignment from stdin; from now on the end of stdin ends this process, after `on_orphaned`.

    The parent holds the other end of that pipe and nothing else does, so it ends however the parent ends. With `dies_at_once`
    the kernel ends this process with its parent, where it can, and `on_orphaned` may not come to its end.
    """
    if dies_at_once:
        die_with_parent()
    forbid_core_files()  # one would hold what people said
    leave_first()
    os.umask(0o077)  # what an engine writes are users' texts
    assignment = msgspec.json.decode(sys.stdin.buffer.readline(), type=Assignment)
    threading.Thread(target=_end_with_stdin, args=(on_orphaned,), daemon=True).start()
    return assignment.listen, msgspec.json.decode(assignment.spec, type=kind)


def _end_with_stdin(on_orphaned: Callable[[], object]) -> None:
    while os.read(sys.stdin.fileno(), 1):  # unbuffered: a lock on sys.stdin would make a normal exit fail
        pass
    on_orphaned()
    os._exit(0)
