"""The worker's side: one call after another, each within its limits; `python -m serow.workers.child`, see `worker`."""

import importlib
import os
import pickle
import sys
import time
import traceback
from typing import BinaryIO

import msgspec

from serow.errors import SerowError
from serow.system.limits import (
    die_with_parent,
    forbid_core_files,
    forbid_writing,
    leave_first,
    limit_cpu,
    limit_memory,
    resident_size,
    unlimit_memory,
)
from serow.workers.frames import HEAD, LENGTH, Call, Kind

LARGEST = 300 << 20  # bytes: a worker that keeps more after its job is replaced


def main() -> None:
    """Work until stdin ends."""
    calls, replies = _pipes()
    die_with_parent()
    leave_first()
    forbid_core_files()
    forbid_writing()
    while head := calls.read(LENGTH.size):
        call, begun = pickle.loads(calls.read(LENGTH.unpack(head)[0])), time.process_time()
        kind, payload = _answer(call)
        replies.write(HEAD.pack(kind, resident_size() > LARGEST, time.process_time() - begun, len(payload)))
        replies.write(payload)
        replies.flush()


def warm(modules: tuple[str, ...]) -> None:
    """A call that only imports what others will need: each module, and what it names in `PRELOAD`."""
    for name in modules:
        for each in getattr(importlib.import_module(name), "PRELOAD", ()):
            importlib.import_module(each)


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our end of both pipes; what libraries print goes nowhere."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return sys.stdin.buffer, replies


def _answer(call: Call) -> tuple[Kind, bytes]:
    try:
        warm((call.module,))
        function = getattr(importlib.import_module(call.module), call.name)
        limit_memory(call.memory)
        limit_cpu(call.cpu)
        value = function(*call.args)
        return (Kind.BYTES, value) if isinstance(value, bytes) else (Kind.VALUE, msgspec.msgpack.encode(value))
    except SerowError as error:
        names = [each.__name__ for each in type(error).__mro__]
        return Kind.ERROR, msgspec.msgpack.encode((names, str(error), error.hint))
    except MemoryError:
        return Kind.MEMORY, b""
    except RecursionError:
        return Kind.DEPTH, b""
    except BaseException:  # noqa: BLE001 - the top, and a panic of native code is no Exception
        return Kind.FAULT, traceback.format_exc().encode(errors="replace")
    finally:
        limit_cpu(0)
        unlimit_memory()


if __name__ == "__main__":
    main()
