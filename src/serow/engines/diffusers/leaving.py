"""A drawing that nobody waits for any more ends in the middle of its step: before the next module, or piece of a large one.

Nothing is asked while somebody waits: PyTorch's hook before each module is set at the moment when they leave.
"""

import threading
from typing import Any

LARGE = 1 << 16  # pixels of a picture; what is smaller takes no such time, and looking at each operation takes some of it
LONGEST_PIECE = 1 << 33  # multiplications of one operation, some tenths of a second on two cores
LARGEST_PIECE = 1 << 25  # numbers that an operation goes through once, as long at most


class Abandoned(Exception):
    """Nobody waits for the picture any more."""


class Leaving:
    """Whether those who wait for one drawing have left. `leave` from any thread, `over` from the one that drew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hook: Any = None
        self._is_over = False
        self.has_left = False

    def leave(self) -> None:
        """Have the drawing raise Abandoned before its next module."""
        with self._lock:
            self.has_left = True
            if not self._is_over and self._hook is None:
                from torch.nn.modules.module import register_module_forward_pre_hook

                self._hook = register_module_forward_pre_hook(self._stop)

    def over(self) -> None:
        """The drawing has ended, whichever way: the next one goes undisturbed."""
        with self._lock:
            self._is_over = True
            if self._hook is not None:
                self._hook.remove()

    def check(self) -> None:
        """Raise Abandoned when they have left."""
        if self.has_left:
            raise Abandoned

    def _stop(self, *_: object) -> None:
        if not self._is_over:
            raise Abandoned
