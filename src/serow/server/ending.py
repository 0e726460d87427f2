"""The end that signals ask for comes, also when the event loop is held and nothing in Python runs any more (LIFE-07)."""

import ctypes
import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

HELD = 1.0  # seconds without a beat of the loop after which a second signal does not wait for it
_LONGEST_CLOSE = 60.0  # seconds beside the grace time: engines end, prompts are saved
_SECOND_CLOSE = 10.0
_LONGEST_WAIT = 7 * 86400.0  # seconds; the C library's timers don't take what is for ever
_Handler = Callable[[int, FrameType | None], None]


def on_signal(number: int, handler: _Handler) -> None:
    """Let `handler` answer a signal; a SIGTERM that comes before it could run for the last one ends the process.

    Python runs handlers between two of its steps. When a long call holds it, the kernel is the one who still acts.
    """
    signal.signal(number, handler)
    if sys.platform == "linux" and number == signal.SIGTERM:
        libc = ctypes.CDLL(None)
        if hasattr(libc, "sysv_signal"):  # of glibc: the old semantics, in which a handler serves once
            libc.signal.restype = libc.sysv_signal.restype = ctypes.c_void_p
            libc.signal.argtypes = libc.sysv_signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
            libc.sysv_signal(number, libc.signal(number, None))


def end_by_first(grace: float) -> None:
    """After the first signal there is an end to everything, whatever holds us."""
    _end_within(grace + _LONGEST_CLOSE)


def end_by_second(delay: float) -> None:
    """After the second: at once if the loop is held, for `delay` seconds by now; else it has a moment to close."""
    if delay > HELD:
        os._exit(1)
    _end_within(_SECOND_CLOSE)


def _end_within(seconds: float) -> None:
    """By a thread that needs nothing of Python. Engines see their pipe close, as after `kill -9`."""
    faulthandler.dump_traceback_later(min(seconds, _LONGEST_WAIT), exit=True, file=os.open(os.devnull, os.O_WRONLY))
